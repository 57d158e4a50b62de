#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Makes the tiny random models under test/model/tiny: weights, token ids and the logits of another implementation.

Run once, in a virtual environment with torch and transformers; what it writes is committed, so tests need neither.
Made with python 3.11, torch 2.15.0, transformers 5.24.0, safetensors 0.8.0:

    python test/model/make_tiny_models.py test/model/tiny

Weights are drawn wide enough that attention is far from uniform; logits are computed in f32 from the weights as stored.
"""

import json
import pathlib
import shutil
import sys

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

LENGTHS = (40, 23)

COMMON = dict(vocab_size=96, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
              num_key_value_heads=2, max_position_embeddings=256, bos_token_id=1, eos_token_id=2)

# Of the four frequencies one is kept, one blended, two slowed.
LLAMA3 = dict(rope_type="llama3", rope_theta=100.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=32)

# name: (config, stored type, shards, write config.json in the form of older files)
MODELS = {
    "llama-llama3-tied-f16": (LlamaConfig(**COMMON, tie_word_embeddings=True, rope_parameters=dict(LLAMA3)),
                              torch.float16, 1, True),
    "llama-biases-untied-f32-sharded": (LlamaConfig(**COMMON, tie_word_embeddings=False, attention_bias=True, mlp_bias=True,
                                                    rope_parameters=dict(LLAMA3)), torch.float32, 3, False),
    "mistral-window-untied-bf16-sharded": (MistralConfig(**COMMON, tie_word_embeddings=False, sliding_window=8, head_dim=16),
                                           torch.bfloat16, 3, False),
    "qwen2-biases-tied-f32": (Qwen2Config(**COMMON, tie_word_embeddings=True), torch.float32, 1, False),
    "qwen3-norms-untied-bf16": (Qwen3Config(**COMMON, tie_word_embeddings=False, head_dim=16), torch.bfloat16, 1, False),
    "qwen3-norms-tied-f16-sharded": (Qwen3Config(**COMMON, tie_word_embeddings=True, head_dim=16), torch.float16, 3, True),
}


def randomize(model):
    """Norm weights around 1, biases around 0, everything else wide."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.copy_(1 + 0.3 * torch.randn_like(parameter))
            elif name.endswith("bias"):
                parameter.copy_(0.5 * torch.randn_like(parameter))
            elif "embed_tokens" in name or "lm_head" in name:
                parameter.copy_(0.4 * torch.randn_like(parameter))
            else:
                parameter.copy_(1.6 / parameter.shape[1] ** 0.5 * torch.randn_like(parameter))


def rewrite_as_older_file(path):
    """rope_theta, rope_scaling and torch_dtype instead of rope_parameters and dtype."""
    config = json.loads(path.read_text())
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = rope if rope["rope_type"] != "default" else None
    config["torch_dtype"] = config.pop("dtype")
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def save_in_shards(model, folder, shards):
    """The smallest limit that gives this many files."""
    total = sum(p.numel() * p.element_size() for p in {id(p): p for p in model.parameters()}.values())
    for limit in range(total // shards, total + 1, 256):
        shutil.rmtree(folder, ignore_errors=True)
        model.save_pretrained(folder, max_shard_size=limit if shards > 1 else "1GB")
        if len(list(folder.glob("*.safetensors"))) == shards:
            return
    raise SystemExit(f"{folder}: no shard size gives {shards} files")


def make(folder, config, dtype, shards, older):
    torch.manual_seed(2024)
    config._attn_implementation = "eager"
    model = AutoModelForCausalLM.from_config(config).eval()
    randomize(model)
    save_in_shards(model.to(dtype), folder, shards)
    # The stored values in f32 arithmetic. Loaded again, because `to` has rounded RoPE's frequencies as well.
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    golden = {}
    for index, length in enumerate(LENGTHS):
        ids = torch.randint(0, config.vocab_size, (1, length))
        with torch.no_grad():
            logits = model(ids, use_cache=False).logits[0]
        golden[f"{index}.tokens"] = ids[0].to(torch.int32)
        golden[f"{index}.logits"] = logits.float().contiguous()
        print(f"{folder.name}: T={length} logits {logits.min():.2f}..{logits.max():.2f} std {logits.std():.2f}")
    save_file(golden, folder / "golden.safetensors")
    (folder / "generation_config.json").unlink(missing_ok=True)
    if older:
        rewrite_as_older_file(folder / "config.json")


def main():
    root = pathlib.Path(sys.argv[1])
    for name, (config, dtype, shards, older) in MODELS.items():
        make(root / name, config, dtype, shards, older)


if __name__ == "__main__":
    main()
