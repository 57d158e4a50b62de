#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Writes the goldens of this folder by running kvpress: which entries each of its presses keeps.

Needs torch; neither the build nor a test runs it. Made with kvpress 0.5.5, transformers 5.2.0, torch 2.15.0, numpy 2.4.6
on a CPU, one thread; the versions that wrote a file are in its metadata.

  python3 -m venv venv && venv/bin/pip install kvpress==0.5.5 transformers==5.2.0 torch==2.15.0
  venv/bin/python test/goldens/kvpress/make.py            # rewrites the files beside this script

Per model (g1: one query head per KV head; g4: four) three files; README.md says what is in them. Kept entries are read
from the cache that kvpress leaves, by finding its value rows among those of the dense run; scores are what the press
handed to its own top-k. The model runs in float64, so that inputs and scores are right to a float32's last bit whatever the
attention kernel; the script stops unless kvpress keeps the same entries in float32.
"""
import json
import sys
from functools import partial
from importlib.metadata import version
from pathlib import Path
from unittest import mock

import kvpress
import numpy as np
import pandas
import torch
import transformers
from kvpress.presses import duo_attention_press
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "oracle"))
from safetensors_io import METADATA, write_safetensors  # noqa: E402

LAYERS, KV_HEADS, HEAD_DIM, HIDDEN, VOCABULARY = 3, 2, 16, 64, 256
DELIMITER = VOCABULARY  # a token id of its own, which only the press of Finch sees
MODELS = {"g1": {"group": 1, "tokens": 150, "seed": 11}, "g4": {"group": 4, "tokens": 120, "seed": 14}}
SINKS, RECENT = 4, 32  # of DuoAttention; kvpress fixes 128 and 256, more than these prompts have


def tiny_llama(group, seed):
    """A random Llama whose attention is far from uniform, and differently so from head to head."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY + 1, hidden_size=HIDDEN, intermediate_size=HIDDEN, num_hidden_layers=LAYERS,
        num_attention_heads=KV_HEADS * group, num_key_value_heads=KV_HEADS, head_dim=HEAD_DIM,
        initializer_range=0.18, max_position_embeddings=1024, attn_implementation="sdpa")
    config.name_or_path = f"tiny-{group}-{seed}"
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for layer in model.model.layers:
            sharpness = 0.5 + 1.3 * torch.rand(KV_HEADS * group, 1, 1)
            weight = layer.self_attn.q_proj.weight
            weight.copy_((weight.view(-1, HEAD_DIM, HIDDEN) * sharpness).view_as(weight))
    return model


class Recorder:
    """While active: the queries after RoPE of each attention call, per layer."""

    def __init__(self, model):
        self.model, self.queries, self.hooks = model, [[] for _ in range(LAYERS)], []

    def __enter__(self):
        for layer in self.model.model.layers:
            self.hooks.append(layer.self_attn.register_forward_pre_hook(self._record, with_kwargs=True))
        return self

    def __exit__(self, *_):
        for hook in self.hooks:
            hook.remove()

    def _record(self, module, _, kwargs):
        hidden, (cos, sin) = kwargs["hidden_states"], kwargs["position_embeddings"]
        queries = module.q_proj(hidden).view(1, hidden.shape[1], -1, HEAD_DIM).transpose(1, 2)
        queries, _ = apply_rotary_pos_emb(queries, queries, cos, sin)
        self.queries[module.layer_idx].append(queries[0].numpy().copy())


def dense_run(model, ids, implementation, passes=1):
    """Per layer {k, v} of the whole cache and the list of the queries of each pass over the same ids."""
    model.set_attn_implementation(implementation)
    cache = DynamicCache()
    with Recorder(model) as recorder:
        for _ in range(passes):
            model.model(ids, past_key_values=cache)
    return [{"k": layer.keys[0].numpy().copy(), "v": layer.values[0].numpy().copy(), "q": recorder.queries[index]}
            for index, layer in enumerate(cache.layers)]


class Run:
    """One press on one model: what it left in the cache, the entries it masked, the scores it ranked."""

    def __init__(self, model, press, ids, implementation):
        model.set_attn_implementation(implementation)
        self.scores = {}
        scorer = press if hasattr(press, "score") else getattr(press, "press", None)
        if scorer is not None:
            scorer.score = partial(self._score, scorer.score)
        if hasattr(press, "prepare_important_masks"):
            press.prepare_important_masks = partial(self._composed, press, press.prepare_important_masks)
        for layer in model.model.layers:
            layer.self_attn.masked_key_indices = None
        self.cache = DynamicCache()
        with press(model):
            if isinstance(press, kvpress.DuoAttentionPress):
                press.sink_size, press.recent_size = SINKS, RECENT
            model.model(input_ids=ids, past_key_values=self.cache)
        self.masked = [getattr(layer.self_attn, "masked_key_indices", None) for layer in model.model.layers]

    def _score(self, score, module, *words):
        result = score(module, *words)
        self.scores[module.layer_idx] = result[0].numpy().copy()
        return result

    def _composed(self, press, prepare):
        prepare()
        self.scores = dict(enumerate(press.scores.numpy().copy()))
        self.depth_scores = press.composite_scores_per_layer.numpy().copy()
        # Layer 0 repeats the scores of other layers: where the cut falls between two, kvpress leaves the choice to topk.
        ranked, count = np.sort(self.depth_scores, axis=None)[::-1], press.important_per_layer.sum()
        assert not press.structured or ranked[count - 1] > ranked[count], "a tied cut over layers: change the ratio"

    def kept(self, layer, dense, tokens):
        """Per head the kept entries, ascending: unmasked ones whose value row is still there."""
        rows, sets = self.cache.layers[layer].values[0].numpy()[:, :tokens], []
        for head in range(KV_HEADS):
            same = (rows[head][:, None, :] == dense[layer]["v"][head][None, :tokens, :]).all(axis=2)
            assert (same.sum(axis=1) == 1).all(), "a value row that is not in the dense run, or twice"
            sets.append(np.sort(same.argmax(axis=1)))
            if self.masked[layer] is not None:
                _, heads, entries = (part.numpy() for part in self.masked[layer])
                sets[head] = np.setdiff1d(sets[head], entries[heads == head])
        return [entries.astype(np.int32) for entries in sets]


def cut_of(scores, kept, over_heads):
    """[Hkv, 2]: the least score kept and the greatest dropped, of each head or of all heads together."""
    pairs = []
    for head, entries in enumerate(kept):
        mask = np.zeros(scores.shape[1], bool)
        mask[entries] = True
        dropped = scores[head][~mask]
        pairs.append((scores[head][mask].min(), dropped.max() if dropped.size else -np.inf))
    if over_heads:
        pairs = [(min(low for low, _ in pairs), max(high for _, high in pairs))] * len(pairs)
    return np.array(pairs, np.float32)


def record(result, case, run, dense, tokens, keys=False, over_heads=False):
    """Adds `case`.{layer}.kept (or .kept.{head} when ragged), .scores, .cut and, when keys move, .k."""
    for layer in range(LAYERS):
        name, kept = f"{case}.{layer}", run.kept(layer, dense, tokens)
        if len({len(entries) for entries in kept}) == 1:
            result[f"{name}.kept"] = np.stack(kept)
        else:
            result.update({f"{name}.kept.{head}": entries for head, entries in enumerate(kept)})
        if layer in run.scores:
            result[f"{name}.scores"] = run.scores[layer].astype(np.float32)
            result[f"{name}.cut"] = cut_of(run.scores[layer], kept, over_heads)
        if keys:
            result[f"{name}.k"] = run.cache.layers[layer].keys[0].numpy().astype(np.float32)


def presses(tokens):
    """case -> (press, its settings, attention implementation, flags for record)."""
    table = {}

    def add(case, name, implementation="sdpa", wrapper=None, flags=(), after=(), **settings):
        press = getattr(kvpress, name)(**settings)
        if wrapper:
            wrapped, extra = wrapper
            press = getattr(kvpress, wrapped)(press=press, **extra)
            settings = {**settings, **extra}
        for key, value in after:
            setattr(press, key, value)
        table[case] = (press, {"press": f"{wrapper[0]}({name})" if wrapper else name, **settings}, implementation,
                       dict.fromkeys(flags, True))

    for ratio in (0.5, 0.9):
        add(f"knorm-{ratio}", "KnormPress", compression_ratio=ratio)
        add(f"tova-{ratio}", "TOVAPress", compression_ratio=ratio)
        add(f"streaming-{ratio}", "StreamingLLMPress", compression_ratio=ratio)
        add(f"observed-{ratio}", "ObservedAttentionPress", "eager", compression_ratio=ratio)
    add("streaming-no-sinks", "StreamingLLMPress", compression_ratio=0.7, n_sink=0)
    add("snapkv", "SnapKVPress", compression_ratio=0.5, window_size=16, kernel_size=5)
    add("snapkv-wide", "SnapKVPress", compression_ratio=0.75, window_size=8, kernel_size=7)
    add("snapkv-eager", "SnapKVPress", "eager", compression_ratio=0.9, window_size=1, kernel_size=1)
    add("pyramid", "PyramidKVPress", compression_ratio=0.6 if tokens == 150 else 0.5,
        window_size=5 if tokens == 150 else 6, kernel_size=5, beta=7 if tokens == 150 else 5)
    add("pyramid-capped", "PyramidKVPress", compression_ratio=0.25, window_size=6, kernel_size=5, beta=5)
    add("pyramid-flat", "PyramidKVPress", compression_ratio=0.9, window_size=8, kernel_size=5, beta=20)
    for case, ratio, window, alpha in (("ada", 0.5, 16, 0.2), ("ada-free", 0.75, 8, 0.0), ("ada-safeguard", 0.6, 4, 0.95)):
        add(case, "SnapKVPress", wrapper=("AdaKVPress", {"alpha_safeguard": alpha}), flags=("over_heads",),
            compression_ratio=ratio, window_size=window, kernel_size=5)
    delimiter = (("delimiter_token_id", DELIMITER),)
    add("finch", "FinchPress", after=delimiter, flags=("keys",), compression_ratio=0.5)
    add("finch-plain", "FinchPress", after=delimiter, compression_ratio=0.75, normalize_scores=False, rerotate_keys=False)
    add("finch-chunks", "FinchPress", after=delimiter, compression_ratio=0.5, chunk_length=tokens // 3, rerotate_keys=False)
    rotated = ("KeyRerotationPress", {})
    add("streaming-rerotated", "StreamingLLMPress", wrapper=rotated, flags=("keys",), compression_ratio=0.5)
    add("knorm-rerotated", "KnormPress", wrapper=rotated, flags=("keys",), compression_ratio=0.75)
    add("kvcompose", "KVComposePress", compression_ratio=0.6)
    add("kvcompose-mean", "KVComposePress", compression_ratio=0.4, agg_task="mean", add_mean_across_heads=False)
    add("kvcompose-ragged", "KVComposePress", compression_ratio=0.5, structured=False)
    add("duo", "DuoAttentionPress", head_compression_ratio=0.5, on_the_fly_scoring=True)
    add("think", "ThinKPress", key_channel_compression_ratio=0.4, window_size=32)
    add("think-one", "ThinKPress", key_channel_compression_ratio=0.75, window_size=1)
    return table


class OneText:
    """Stands for tokenizer and data set where kvpress computes head scores: the model's own prompt, once."""

    def __init__(self, ids):
        self.input_ids = ids

    def to_pandas(self):
        return pandas.DataFrame({"chapter": ["the prompt"]})

    def __call__(self, _, return_tensors):
        return transformers.BatchEncoding({"input_ids": self.input_ids})


def head_scores(model, ids):
    """[L, Hkv]: DuoAttention's score without training, by kvpress from this prompt alone."""
    text = OneText(ids)
    with mock.patch.object(duo_attention_press.AutoTokenizer, "from_pretrained", lambda _: text), \
            mock.patch.object(duo_attention_press, "load_dataset", lambda *_, **__: text):
        return duo_attention_press.duo_attention_on_the_fly(model, num_samples=1)


def channels(result, case, press, run, dense, queries):
    """Adds the channels whose keys are not all 0, and what ranks them."""
    dropped = int(HEAD_DIM * press.key_channel_compression_ratio)
    for layer in range(LAYERS):
        keys = run.cache.layers[layer].keys[0].numpy()
        kept = [np.flatnonzero((keys[head] != 0).any(axis=0)) for head in range(KV_HEADS)]
        assert all(len(entries) == HEAD_DIM - dropped for entries in kept)
        asked = np.square(queries[layer][:, -press.window_size:]).mean(axis=1).reshape(KV_HEADS, -1, HEAD_DIM).mean(axis=1)
        scores = asked * np.square(dense[layer]["k"]).mean(axis=1)
        result[f"{case}.{layer}.channels"] = np.stack(kept).astype(np.int32)
        result[f"{case}.{layer}.scores"] = scores.astype(np.float32)
        result[f"{case}.{layer}.cut"] = cut_of(scores, kept, False)


def goldens_of(name, model, ids, question=12):
    """The contents of the three files of one model, in the model's precision."""
    tokens = ids.shape[1]
    dense = {kind: dense_run(model, ids, kind) for kind in ("sdpa", "eager")}
    twice = dense_run(model, ids, "eager", passes=2)
    inputs = {"rope_inv_freq": model.model.rotary_emb.inv_freq.numpy().astype(np.float32)}
    second, result = {}, {"ids": ids[0].numpy().astype(np.int32)}
    for layer in range(LAYERS):
        for side, values in dense["sdpa"][layer].items():
            values = values[0] if side == "q" else values
            other = dense["eager"][layer][side][0] if side == "q" else dense["eager"][layer][side]
            assert np.abs(values - other).max() < 1e-5 * np.abs(values).max(), "the implementations differ"
            inputs[f"layers.{layer}.{side}"] = values.astype(np.float32)
        second[f"layers.{layer}.task.q"] = twice[layer]["q"][1].astype(np.float32)
        second[f"layers.{layer}.task.k"] = twice[layer]["k"][:, tokens:].astype(np.float32)
    duo = head_scores(model, ids)
    result["duo.head_scores"] = duo.astype(np.float32)
    delimited = torch.cat([ids[:, :-question], torch.tensor([[DELIMITER]]), ids[:, -question:]], dim=1)
    about = {}
    with mock.patch.object(duo_attention_press, "duo_attention_on_the_fly", lambda _: duo):
        for case, (press, settings, kind, flags) in presses(tokens).items():
            run = Run(model, press, delimited if settings["press"] == "FinchPress" else ids, kind)
            if settings["press"] == "ThinKPress":
                queries = [layer["q"][0] for layer in dense[kind]]
                channels(result, case, press, run, dense[kind], queries)
            else:
                composed = settings["press"] == "KVComposePress"
                record(result, case, run, twice if composed else dense[kind], tokens, **flags)
            if hasattr(run, "depth_scores"):
                result[f"{case}.depth_scores"] = run.depth_scores.astype(np.float32)
            if settings["press"] == "FinchPress":
                settings["question"] = press.window_size
            if settings["press"] == "DuoAttentionPress":
                settings.update(sink_size=SINKS, recent_size=RECENT)
            about[f"case.{case}"] = json.dumps({**settings, "attention": kind})
    return {f"{name}-inputs": (inputs, {}), f"{name}-second-pass": (second, {}), f"{name}-kept": (result, about)}


def check_single(single, double):
    """kvpress in float32 keeps the same entries: no cut of these seeds depends on rounding."""
    sets = [name for name, values in double.items() if values.dtype == np.int32]
    changed = [name for name in sets if not np.array_equal(single.get(name), double[name])]
    assert not changed, f"float32 keeps other entries than float64: {changed}"
    gaps = {name: ((values[:, 0] - values[:, 1]) / np.abs(values[:, 0])).min()
            for name, values in double.items() if name.endswith(".cut") and (values[:, 0] > values[:, 1]).all()}
    print(f"{len(sets)} sets; smallest relative gap at a cut {min(gaps.values()):.1e} in {min(gaps, key=gaps.get)}")


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.set_grad_enabled(False)
    versions = {package: version(package) for package in ("kvpress", "transformers", "torch", "numpy")}
    for name, shape in MODELS.items():
        model = tiny_llama(shape["group"], shape["seed"])
        generator = torch.Generator().manual_seed(shape["seed"] + 1)
        # No token twice: equal rows of layer 0 would tie.
        ids = torch.randperm(VOCABULARY, generator=generator)[None, :shape["tokens"]]
        about = {"seed": shape["seed"], "group": shape["group"], **versions}
        single = goldens_of(name, model, ids)[f"{name}-kept"][0]
        files = goldens_of(name, model.double(), ids)
        check_single(single, files[f"{name}-kept"][0])
        for file, (tensors, extra) in files.items():
            path = HERE / f"{file}.safetensors"
            write_safetensors(path, {**tensors, METADATA: {**about, **extra}})
            print(f"{path.name}: {path.stat().st_size} bytes, {len(tensors)} tensors")


if __name__ == "__main__":
    main()
