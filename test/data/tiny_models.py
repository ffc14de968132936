"""The tiny random checkpoints: what each looks like, and how its folder is written.

A folder is what a Hugging Face repository holds: configuration, tokenizer and safetensors, in the variety that
is met in the wild: names of hub checkpoints and of transformers 5, one file or shards, f32, f16 and bf16, old and
new spellings of the rotary scaling, chat templates in four places.
"""
import json
import math

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

CORPUS = [
    "USER: What is shown in this picture? ASSISTANT: The picture shows a small red square on the table.",
    "[INST] Describe the image, please. [/INST] There are two signs near the street and the third is in the shade.",
    "What is the total of the invoice? The total is 128.50 and the date is 2024-03-17.",
    "Read the heading: how many columns are there? In the third column the second word is green.",
    "system user assistant question answer short long image picture text line word number colour",
]
LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
VICUNA = (
    "{% for message in messages %}{% if message['role'] == 'user' %}USER: {% for c in message['content'] %}"
    "{% if c['type'] == 'image' %}<image>\n{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% else %}"
    " ASSISTANT: {{ message['content'] }}{% endif %}{% endfor %}{% if add_generation_prompt %} ASSISTANT:{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}[INST] {{ message['content'] }}"
    " [/INST]{% else %} {{ message['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
)
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for message in messages %}<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n"
    "{{ message['content'] }}<|eot_id|>{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant"
    "<|end_header_id|>\n\n{% endif %}"
)
CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
CLIP_STD = [0.26862954, 0.26130258, 0.27577711]

# What every model has unless it says otherwise.
DEFAULTS = dict(
    family="llava", text="llama", hidden=64, layers=2, heads=2, kv_heads=2, head_dim=32, explicit_head_dim=False,
    inter=80, rope=None, theta=10000.0, tied=False, bias=False, max_positions=2048, dtype="bfloat16", names="hub",
    shards=1, legacy_buffers=False, v_hidden=32, v_heads=2, v_layers=3, v_inter=64, v_act="quick_gelu", image=28,
    patch=7, feature_layer=-2, select="default", projector_bias=True, pinpoints=None, pad_square=False,
    tokenizer="legacy", chat=None, chat_file=None, sharpness=(1.3, 2.2, 1.7, 2.8),
)  # fmt: skip
MODELS = {
    "llava-llama-mha": dict(
        hidden=128, head_dim=64, inter=48, dtype="float32", legacy_buffers=True, chat=VICUNA,
        chat_file="chat_template.json"),
    "llava-mistral-gqa4": dict(
        text="mistral", heads=8, head_dim=80, explicit_head_dim=True, names="v5", shards=2, theta=1e6,
        tokenizer="metaspace", chat=MISTRAL, chat_file="tokenizer_config.json"),
    "next-mistral-gqa2": dict(
        family="llava_next", text="mistral", heads=4, head_dim=128, explicit_head_dim=True, theta=1e6,
        pinpoints=[[28, 56], [56, 28], [56, 56], [84, 28], [28, 84]], tokenizer="metaspace", chat=MISTRAL,
        chat_file="chat_template.jinja"),
    "next-llama-bias": dict(
        family="llava_next", heads=4, head_dim=96, explicit_head_dim=True, bias=True, tied=True,
        theta=500000.0, image=28, patch=14,
        rope={"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
              "original_max_position_embeddings": 64},
        pinpoints=[[28, 56], [56, 28], [56, 56], [84, 28], [28, 84]]),
    "llava-llama-full": dict(
        hidden=96, layers=3, heads=3, kv_heads=3, rope={"type": "linear", "factor": 2.0}, dtype="float16", image=30,
        v_hidden=48, v_heads=3, feature_layer=-1, select="full", projector_bias=False, pad_square=True, chat=CHATML,
        chat_file="tokenizer_config.json", tokenizer="chatml"),
    "next-llama-mqa": dict(
        family="llava_next", layers=3, heads=4, kv_heads=1, head_dim=64, explicit_head_dim=True, theta=500000.0,
        v_act="gelu", pinpoints=[[28, 56], [56, 28], [56, 56]], tokenizer="bytes", chat=LLAMA3,
        chat_file="chat_template.jinja"),
    "next-vicuna": dict(
        family="llava_next", shards=3, dtype="float16", pinpoints=[[28, 56], [56, 28], [56, 56], [84, 28], [28, 84]],
        chat=VICUNA, chat_file="processor_config.json", max_positions=4096),
}  # fmt: skip


def spec(name):
    return {**DEFAULTS, **MODELS[name], "name": name}


# ---- tokenizer ------------------------------------------------------------------------------------------------


def sentencepiece_tokenizer(kind):
    """As converted from Llama's SentencePiece model: bytes as <0xNN>, spaces as U+2581."""
    trainer = trainers.BpeTrainer(vocab_size=100, special_tokens=[], show_progress=False)
    learner = Tokenizer(models.BPE())
    learner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    learner.pre_tokenizer = pre_tokenizers.Split(Regex("▁[^▁]*"), "isolated")
    learner.train_from_iterator(CORPUS, trainer)
    learned = json.loads(learner.to_str())["model"]
    pieces = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
    pieces += sorted(learned["vocab"], key=learned["vocab"].get)
    vocab = {piece: i for i, piece in enumerate(pieces)}
    merges = [tuple(m) for m in learned["merges"]]
    out = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    if kind == "metaspace":
        out.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="first", split=False)
    else:
        out.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    out.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special = ["<unk>", "<s>", "</s>", "<image>", "<pad>"]
    special += ["<|im_start|>", "<|im_end|>"] if kind == "chatml" else []
    out.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in special])
    out.post_processor = processors.TemplateProcessing("<s> $A", "<s> $A <s> $B", [("<s>", 1)])
    return out, dict(bos="<s>", eos="<|im_end|>" if kind == "chatml" else "</s>", pad="<pad>", special=special)


def byte_tokenizer():
    """As Llama 3 ships it: byte-level BPE behind a regular expression, ids of the special tokens at the end."""
    trainer = trainers.BpeTrainer(
        vocab_size=330, special_tokens=[], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    out = Tokenizer(models.BPE(ignore_merges=True))
    out.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA3_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    out.decoder = decoders.ByteLevel()
    out.train_from_iterator(CORPUS, trainer)
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
               "<image>", "<pad>"]  # fmt: skip
    out.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in special])
    bos = out.token_to_id(special[0])
    out.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(f"{special[0]} $A", f"{special[0]} $A {special[0]} $B", [(special[0], bos)]),
        ]
    )
    return out, dict(bos=special[0], eos="<|eot_id|>", pad="<pad>", special=special)


def tokenizer_of(s):
    return byte_tokenizer() if s["tokenizer"] == "bytes" else sentencepiece_tokenizer(s["tokenizer"])


# ---- configuration ----------------------------------------------------------------------------------------------


def model_config(s, tokenizer, tokens):
    ids = {key: tokenizer.token_to_id(tokens[key]) for key in ("bos", "eos", "pad")}
    new = s["names"] == "v5"
    dtype_key = "dtype" if new else "torch_dtype"
    text = dict(
        model_type=s["text"], architectures=[{"llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM"}[s["text"]]],
        hidden_size=s["hidden"], num_hidden_layers=s["layers"], num_attention_heads=s["heads"],
        num_key_value_heads=s["kv_heads"], intermediate_size=s["inter"], hidden_act="silu", vocab_size=s["vocab"],
        rms_norm_eps=1e-5 if s["text"] == "llama" else 1e-6, max_position_embeddings=s["max_positions"],
        bos_token_id=ids["bos"], eos_token_id=ids["eos"], tie_word_embeddings=s["tied"],
    )  # fmt: skip
    if s["explicit_head_dim"]:
        text["head_dim"] = s["head_dim"]
    if s["text"] == "mistral":
        text["sliding_window"] = None
    if s["bias"]:
        text["attention_bias"] = text["mlp_bias"] = True
    if new:
        text["rope_parameters"] = {"rope_type": "default", "rope_theta": s["theta"]}
    else:
        text |= {"rope_theta": s["theta"], "rope_scaling": s["rope"]}
    text[dtype_key] = s["dtype"]
    vision = dict(
        model_type="clip_vision_model", hidden_size=s["v_hidden"], intermediate_size=s["v_inter"],
        num_hidden_layers=s["v_layers"], num_attention_heads=s["v_heads"], image_size=s["image"],
        patch_size=s["patch"], hidden_act=s["v_act"], layer_norm_eps=1e-5, projection_dim=s["v_hidden"],
    )  # fmt: skip
    llava = s["family"] == "llava"
    config = {
        "architectures": ["LlavaForConditionalGeneration" if llava else "LlavaNextForConditionalGeneration"],
        "model_type": s["family"],
        "ignore_index": -100,
        "image_token_index": tokenizer.token_to_id("<image>"),
        "image_seq_length": (s["image"] // s["patch"]) ** 2,
        "projector_hidden_act": "gelu",
        "multimodal_projector_bias": s["projector_bias"],
        "vision_feature_layer": s["feature_layer"],
        "vision_feature_select_strategy": s["select"],
        "tie_word_embeddings": s["tied"],
        dtype_key: s["dtype"],
        "pad_token_id": ids["pad"],
        "text_config": text,
        "vision_config": vision,
    }
    if not llava:
        config |= {"image_grid_pinpoints": s["pinpoints"], "use_image_newline_parameter": True}
    generation = {"bos_token_id": ids["bos"], "eos_token_id": ids["eos"], "pad_token_id": ids["pad"]}
    if s["tokenizer"] == "bytes":
        generation["eos_token_id"] = [ids["eos"], tokenizer.token_to_id("<|end_of_text|>")]
    return config, generation


def processor_configs(s):
    side = {"height": s["image"], "width": s["image"]}
    image = dict(
        image_processor_type="CLIPImageProcessor" if s["family"] == "llava" else "LlavaNextImageProcessor",
        do_convert_rgb=True, do_resize=True, size={"shortest_edge": s["image"]}, resample=3, do_center_crop=True,
        crop_size=side, do_rescale=True, rescale_factor=1 / 255, do_normalize=True, image_mean=CLIP_MEAN,
        image_std=CLIP_STD,
    )  # fmt: skip
    if s["pad_square"]:
        image |= {"image_processor_type": "LlavaImageProcessor", "do_pad": True}
    if s["pinpoints"]:
        image |= {"image_grid_pinpoints": s["pinpoints"], "do_pad": True}
    processor = {
        "processor_class": "LlavaProcessor" if s["family"] == "llava" else "LlavaNextProcessor",
        "image_token": "<image>",
        "patch_size": s["patch"],
        "vision_feature_select_strategy": s["select"],
        "num_additional_image_tokens": 1,
    }
    return image, processor


def write_json(path, value):
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def write_texts(folder, s, tokenizer, tokens):
    """Everything in the folder but the weights."""
    config, generation = model_config(s, tokenizer, tokens)
    image, processor = processor_configs(s)
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": s["max_positions"]}
    settings |= {f"{key}_token": tokens[key] for key in ("bos", "eos", "pad")}
    if s["tokenizer"] != "bytes":
        settings["unk_token"] = "<unk>"
    if s["chat_file"] == "tokenizer_config.json":
        settings["chat_template"] = s["chat"]
    elif s["chat_file"] == "processor_config.json":
        processor["chat_template"] = s["chat"]
    elif s["chat_file"] == "chat_template.json":
        write_json(folder / s["chat_file"], {"chat_template": s["chat"]})
    elif s["chat_file"]:
        (folder / s["chat_file"]).write_text(s["chat"])
    if s["names"] == "v5":  # transformers 5 keeps the image part inside processor_config.json
        processor["image_processor"] = image
    else:
        write_json(folder / "preprocessor_config.json", image)
    write_json(folder / "config.json", config)
    write_json(folder / "generation_config.json", generation)
    write_json(folder / "processor_config.json", processor)
    write_json(folder / "tokenizer_config.json", settings)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)


# ---- weights ----------------------------------------------------------------------------------------------------


def random_weights(s, seed, n_tokens, special_ids):
    """All tensors by canonical name (hub prefixes), values rounded to the stored dtype.

    Scales: residual streams near 1, query and key gains above 1 so that attention is peaked (differently in each
    layer, so that sparsities differ), rows of special and padding tokens small so that greedy decoding never
    chooses them.
    """
    rng = torch.Generator().manual_seed(seed)
    weights = {}

    def put(name, *shape, std, mean=0.0):
        weights[name] = (torch.randn(shape, generator=rng) * std + mean).to(getattr(torch, s["dtype"]))

    def linear(name, n_out, n_in, gain, bias):
        put(name + ".weight", n_out, n_in, std=gain / math.sqrt(n_in))
        if bias:
            put(name + ".bias", n_out, std=0.2)

    def norm(name, n):
        put(name + ".weight", n, std=0.15, mean=1.0)
        put(name + ".bias", n, std=0.1)

    v, d, tower = "vision_tower.vision_model.", s["v_hidden"], s["v_layers"]
    put(v + "embeddings.class_embedding", d, std=1.0)
    put(v + "embeddings.patch_embedding.weight", d, 3, s["patch"], s["patch"], std=1 / math.sqrt(3) / s["patch"])
    put(v + "embeddings.position_embedding.weight", (s["image"] // s["patch"]) ** 2 + 1, d, std=0.5)
    norm(v + "pre_layrnorm", d)
    for i in range(tower):
        at = f"{v}encoder.layers.{i}."
        norm(at + "layer_norm1", d)
        for p, gain in (("q_proj", 1.3), ("k_proj", 1.3), ("v_proj", 1.0), ("out_proj", 1.0)):
            linear(at + "self_attn." + p, d, d, gain, True)
        norm(at + "layer_norm2", d)
        linear(at + "mlp.fc1", s["v_inter"], d, 1.0, True)
        linear(at + "mlp.fc2", d, s["v_inter"], 1.3, True)
    norm(v + "post_layernorm", d)

    h, hd = s["hidden"], s["head_dim"]
    linear("multi_modal_projector.linear_1", h, d, 1.0, s["projector_bias"])
    linear("multi_modal_projector.linear_2", h, h, 1.3, s["projector_bias"])
    if s["family"] == "llava_next":
        put("image_newline", h, std=1.0)
    t = "language_model.model."
    put(t + "embed_tokens.weight", s["vocab"], h, std=0.25 if s["tied"] else 1.0)
    for i in range(s["layers"]):
        at, gain = f"{t}layers.{i}.", math.sqrt(s["sharpness"][i % 4])
        put(at + "input_layernorm.weight", h, std=0.15, mean=1.0)
        linear(at + "self_attn.q_proj", s["heads"] * hd, h, gain, s["bias"])
        linear(at + "self_attn.k_proj", s["kv_heads"] * hd, h, gain, s["bias"])
        linear(at + "self_attn.v_proj", s["kv_heads"] * hd, h, 1.0, s["bias"])
        linear(at + "self_attn.o_proj", h, s["heads"] * hd, 1.5, s["bias"])
        put(at + "post_attention_layernorm.weight", h, std=0.15, mean=1.0)
        linear(at + "mlp.gate_proj", s["inter"], h, 1.5, s["bias"])
        linear(at + "mlp.up_proj", s["inter"], h, 1.5, s["bias"])
        linear(at + "mlp.down_proj", h, s["inter"], 1.5, s["bias"])
    put(t + "norm.weight", h, std=0.1, mean=1.0)
    if not s["tied"]:
        put("language_model.lm_head.weight", s["vocab"], h, std=2.0 / math.sqrt(h))
    head = weights[t + "embed_tokens.weight" if s["tied"] else "language_model.lm_head.weight"]
    head[special_ids] *= 0.01
    head[n_tokens:] *= 0.01
    return weights


def v5_name(name):
    """The name a tensor has in a folder saved by transformers 5."""
    if name.startswith("language_model.lm_head"):
        return name.removeprefix("language_model.")
    name = name.replace("language_model.model.", "language_model.").replace("vision_tower.vision_model.", "vision_tower.")
    return "model." + name


def save_weights(folder, s, weights):
    stored = {(v5_name(n) if s["names"] == "v5" else n): w.contiguous() for n, w in weights.items()}
    if s["legacy_buffers"]:  # buffers that old checkpoints carry and nobody reads
        positions = (s["image"] // s["patch"]) ** 2 + 1
        stored["vision_tower.vision_model.embeddings.position_ids"] = torch.arange(positions)[None]
        stored["language_model.model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(s["head_dim"] // 2)
    if s["shards"] == 1:
        save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
        return
    names, where = sorted(stored), {}
    for k in range(s["shards"]):
        part = names[k * len(names) // s["shards"] : (k + 1) * len(names) // s["shards"]]
        file = f"model-{k + 1:05d}-of-{s['shards']:05d}.safetensors"
        save_file({n: stored[n] for n in part}, folder / file, metadata={"format": "pt"})
        where |= {n: file for n in part}
    total = sum(w.numel() * w.element_size() for w in stored.values())
    write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": where})
