//! Data: what cannot be trained on, and what can.

use crate::support::Scene;

/// A token file as nanoGPT writes it: 16-bit tokens, nothing else.
fn nano_gpt(tokens: &[u16]) -> Vec<u8> {
    tokens.iter().flat_map(|token| token.to_le_bytes()).collect()
}

/// As llm.c writes it: 256 words of 32 bits first, with magic, version and count.
fn llm_c(version: u32, count: u32, tokens: &[u16]) -> Vec<u8> {
    let mut header = [0u32; 256];
    header[..3].copy_from_slice(&[20_240_520, version, count]);
    let header = header.into_iter().flat_map(u32::to_le_bytes);
    header.chain(nano_gpt(tokens)).collect()
}

fn tokens(count: u16) -> Vec<u16> {
    (0..count).map(|i| i * 37 % 101).collect()
}

#[test]
fn data_that_is_missing_or_empty_is_refused_with_what_to_name() {
    let scene = Scene::new();
    scene.write("empty.txt", "");
    scene.write("folder/picture.png", "not text");
    scene.write("folder/.hidden.txt", "not looked at");
    for (paths, expected) in [
        ("nowhere.txt", "cannot open nowhere.txt"),
        ("empty.txt", "there is no text in empty.txt"),
        ("folder", "there is no text in folder"),
        ("[]", "is empty"),
        ("[\"text.txt\",\"nowhere\"]", "cannot open nowhere"),
    ] {
        let remedy = "name text files, folders of text, or .bin token files";
        let expected = ["setting `data.paths`", expected, remedy];
        scene.refuse_settings(&format!("data.paths={paths}"), &expected);
    }
}

#[test]
fn a_context_longer_than_the_data_is_refused_with_the_longest_that_fits() {
    let scene = Scene::new();
    scene.write("short.txt", "x".repeat(101));
    let expected = ["setting `train.seq_len`", "has 101 tokens", "at most 100"];
    scene.refuse_settings("data.paths=short.txt train.seq_len=104", &expected);
    scene.train("run", "data.paths=short.txt train.seq_len=100 train.steps=1");
}

#[test]
fn damaged_token_files_are_refused_with_what_is_wrong() {
    let scene = Scene::new();
    scene.write("odd.bin", [1, 2, 3]);
    scene.write("empty.bin", []);
    scene.write("cut.bin", llm_c(1, 1000, &tokens(900)));
    scene.write("new.bin", llm_c(2, 4, &tokens(4)));
    for (file, expected) in [
        ("odd.bin", "3 bytes are not a whole number of 16-bit tokens"),
        ("empty.bin", "there is no text in empty.bin"),
        ("cut.bin", "the header promises 1000 tokens, the file holds 900"),
        ("new.bin", "version 2"),
    ] {
        let expected = ["setting `data.paths`", file, expected];
        scene.refuse_settings(&format!("data.paths={file}"), &expected);
    }
}

#[test]
fn tokens_outside_the_vocabulary_are_refused_before_a_step_is_run() {
    let scene = Scene::new();
    let mut ids = tokens(1000);
    ids[999] = 300;
    scene.write("ids.bin", nano_gpt(&ids));
    let expected = ["token 300", "vocabulary of 256", "raise model.vocab_size"];
    scene.refuse_settings("data.paths=ids.bin", &expected);
    scene.train("run", "data.paths=ids.bin model.vocab_size=301 train.steps=1");
}

#[test]
fn token_files_of_both_kinds_train_like_the_same_tokens_as_text() {
    let scene = Scene::new();
    let ids = tokens(2000);
    scene.write("ids.txt", ids.iter().map(|&id| id as u8).collect::<Vec<u8>>());
    scene.write("nano.bin", nano_gpt(&ids));
    scene.write("llm.bin", llm_c(1, 2000, &ids));
    let losses = |file: &str| {
        let run = format!("run-on-{file}");
        scene.train(&run, &format!("data.paths={file} train.steps=2"));
        scene.metrics(&run).iter().map(|step| step.loss.to_bits()).collect::<Vec<_>>()
    };
    let text = losses("ids.txt");
    assert_eq!(losses("nano.bin"), text);
    assert_eq!(losses("llm.bin"), text);
}

#[test]
fn a_tokenizer_that_is_not_there_is_refused() {
    let expected = ["setting `data.tokenizer`", "no file nowhere.json", "name a tokenizer.json"];
    Scene::new().refuse_settings("data.tokenizer=nowhere.json", &expected);
}

#[test]
fn a_tokenizer_goes_with_the_model_and_token_files_train_without_it() {
    let scene = Scene::new();
    scene.write("mine.json", "{}");
    scene.write("ids.bin", nano_gpt(&tokens(1000)));
    scene.train("run", "data.tokenizer=mine.json data.paths=ids.bin train.steps=1");
    assert_eq!(scene.text("run/model/tokenizer.json"), "{}");
    scene.succeed("eval --model run/model --data ids.bin --seq-len 8");
    // Text would be read by it, by default too.
    let named = ["`data.paths`", "run/model/tokenizer.json", TOKENIZER];
    scene.refuse_settings("model.path=run/model", &named);
    let words = "eval --model run/model --data text.txt --seq-len 8";
    scene.refuse(words, &["`--data`", "run/model/tokenizer.json", TOKENIZER]);
}

/// What is wrong with the tokenizer `{}`.
#[cfg(not(feature = "tokenizers"))]
const TOKENIZER: &str = "build with `--features tokenizers`";
#[cfg(feature = "tokenizers")]
const TOKENIZER: &str = "is not a tokenizer";
