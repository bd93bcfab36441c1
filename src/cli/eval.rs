//! `slimpipe eval`.

use std::path::PathBuf;

use slimpipe::train::data::Tokens;
use slimpipe::train::eval::evaluate;

/// Arguments of `eval`.
#[derive(clap::Args)]
pub struct Args {
    /// A Hugging Face folder.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Text files, folders of text, or token files.
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    data: Vec<PathBuf>,
    /// Tokens in a window.
    #[arg(long, value_name = "N")]
    seq_len: usize,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Evaluates, and prints the mean loss and the perplexity.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let tokenizer = args.model.join("tokenizer.json");
    let tokens = Tokens::open(&args.data, tokenizer.is_file().then_some(tokenizer.as_path()))
        .map_err(|error| error.about("--data"))?;
    let found = evaluate(&args.model, &tokens, args.seq_len)?;
    if args.json {
        println!("{}", serde_json::to_string(&found)?);
    } else {
        println!(
            "loss {:.6} nats, perplexity {:.4}, over {} tokens in {} windows of {}",
            found.loss, found.perplexity, found.tokens, found.windows, args.seq_len
        );
    }
    Ok(())
}
