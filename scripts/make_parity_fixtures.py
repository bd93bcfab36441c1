"""Makes train/tests/fixtures/: tiny Llamas of Hugging Face transformers and what they compute.

Run it once in an environment of each version, with nothing else different:

    python -m venv hf4 && hf4/bin/pip install torch==2.15.0 numpy==2.4.6 transformers==4.57.6 safetensors==0.8.0
    python -m venv hf5 && hf5/bin/pip install torch==2.15.0 numpy==2.4.6 transformers==5.24.0 safetensors==0.8.0
    hf4/bin/python scripts/make_parity_fixtures.py
    hf5/bin/python scripts/make_parity_fixtures.py

Each version makes the cases below that are marked with it, so that both spellings of config.json are
the real thing. A case is a folder as `save_pretrained` writes it, plus `expected.safetensors`:
`input_ids`, `labels` (in transformers' sense: the token at each position, -100 ignored), `logits`,
`loss`, and `grad.NAME` of every parameter. Weights are random with a fixed seed; nothing is downloaded.
"""

import pathlib
import shutil

import torch
import transformers
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

VERSIONS = {4: "4.57.6", 5: "5.24.0"}
SEQ_LEN = 48
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}

# name: (transformers' major version, settings, how `save_pretrained` shards)
CASES = {
    "gqa": (5, dict(num_attention_heads=6, num_key_value_heads=2, hidden_size=48), {}),
    "mha": (4, dict(num_key_value_heads=4, num_hidden_layers=3), dict(max_shard_size="40KB")),
    "mqa": (5, dict(num_key_value_heads=1), {}),
    "tied": (4, dict(tie_word_embeddings=True), {}),
    "head_dim": (5, dict(head_dim=20), dict(max_shard_size="40KB")),
    "linear": (4, dict(rope_scaling={"rope_type": "linear", "factor": 4.0}), {}),
    "llama3": (4, dict(rope_scaling=LLAMA3, num_attention_heads=2, num_key_value_heads=1), {}),
    "llama3_tied": (
        5,
        dict(rope_scaling=LLAMA3, num_attention_heads=2, tie_word_embeddings=True),
        {},
    ),
}


def config(settings):
    common = dict(
        vocab_size=96,
        hidden_size=32,
        intermediate_size=56,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        rms_norm_eps=1e-5,
        rope_theta=500.0,
    )
    return LlamaConfig(**(common | settings), attn_implementation="eager")


def model_of(settings):
    """A model whose attention is far from uniform, so that every part of it shows in the loss."""
    model = LlamaForCausalLM(config(settings)).float()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                parameter.copy_(1.0 + 0.2 * torch.randn_like(parameter))
            else:
                table = "embed_tokens" in name or "lm_head" in name
                parameter.normal_(0.0, 0.3 if table else 1.5 * parameter.shape[1] ** -0.5)
    return model


def expected(model):
    ids = torch.randint(model.config.vocab_size, (1, SEQ_LEN))
    labels = ids.clone()
    labels[0, [0, 5, 6, 30]] = -100
    output = model(input_ids=ids, labels=labels)
    output.loss.backward()
    tensors = {
        "input_ids": ids[0],
        "labels": labels[0],
        "logits": output.logits[0].detach(),
        "loss": output.loss.detach(),
    }
    for name, parameter in model.named_parameters():
        tensors[f"grad.{name}"] = parameter.grad
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def main():
    major = int(transformers.__version__.split(".")[0])
    if transformers.__version__ != VERSIONS.get(major) or torch.__version__[:6] != "2.15.0":
        raise SystemExit(f"made with torch 2.15.0 and transformers {VERSIONS}: see the header")
    torch.set_num_threads(1)
    root = pathlib.Path(__file__).resolve().parent.parent / "train/tests/fixtures"
    for seed, (name, (version, settings, sharding)) in enumerate(CASES.items()):
        if version != major:
            continue
        torch.manual_seed(seed)
        folder = root / name
        shutil.rmtree(folder, ignore_errors=True)
        model = model_of(settings)
        model.save_pretrained(folder, **sharding)
        (folder / "generation_config.json").unlink(missing_ok=True)
        tensors = expected(model)
        save_file(tensors, folder / "expected.safetensors")
        for file in folder.iterdir():
            file.chmod(0o644)
        print(f"{name}: loss {tensors['loss'].item():.6f}, transformers {transformers.__version__}")


if __name__ == "__main__":
    main()
