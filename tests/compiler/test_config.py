"""Compile files: VastModelZOO's parse as they are, every mistake is one line that names the key."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from atrous.compiler.config import NO_EFFECT, CompileConfig, load
from atrous.errors import ConfigError
from atrous.preprocess import Preprocess

OFFICIAL = """name: official_deeplab_v3_int8

frontend:
  shape:
    input:
    - 1
    - 3
    - 513
    - 513
  type: onnx
  checkpoint: ./onnx/deeplab_v3_resnet50-513.onnx
  dtype: fp32

backend:
  type: tvm_vacc
  dtype: int8
  compile:
    data_transport_mode: 1
  quantize:
    calibrate_mode: kl_divergence
    quantize_per_channel: true

dataset:
  type: tvm
  path: /path/to/VOC2012/JPEGImages_val
  sampler:
    suffix: jpg
    get_data_num: 50
  process_ops: 
    - type: DecodeImage
    - type: Resize
      size: [513, 513]
    - type: Normalize
      mean: [0.485, 0.456, 0.406]
      std: [0.229, 0.224, 0.225]
    - type: ToTensor

workspace:
  path: ./deploy_weights/
"""

SHORT = """
name: x
frontend: {checkpoint: a.onnx, shape: {input: [1, 3, 513, 513]}}
"""
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
IN_BYTES = {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}


def write(folder: Path, text: str) -> Path:
    path = folder / "x.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def loaded(folder: Path, *overrides: str, text: str = SHORT) -> CompileConfig:
    return load(write(folder, text), overrides)


def complaint(folder: Path, *overrides: str, text: str = SHORT) -> str:
    path = write(folder, text)
    with pytest.raises(ConfigError) as caught:
        load(path, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


def with_steps(*steps: dict[str, Any], shape: object = None) -> str:
    content = yaml.safe_load(SHORT)
    content["frontend"]["shape"] = {"input": shape} if shape else None
    content["dataset"] = {"process_ops": [*steps]}
    return yaml.safe_dump(content)


def step(kind: str, **parameters: object) -> dict[str, Any]:
    return {"type": kind, **parameters}


def test_official(tmp_path: Path) -> None:
    config = loaded(tmp_path, text=OFFICIAL)
    assert config.frontend.type == "onnx"
    assert config.frontend.dims == (1, 3, 513, 513)
    assert config.backend.dtype == "int8"
    assert config.backend.quantize.calibrate_mode == "kl_divergence"
    assert config.preprocess() == Preprocess(size=(513, 513))
    assert config.folder == Path("deploy_weights/official_deeplab_v3_int8")
    assert config.without_effect == (
        "backend.type",
        "backend.compile.data_transport_mode",
        "dataset.type",
    )
    assert config.notes == ()


def test_the_seed_is_the_official_file(shared: Path, tmp_path: Path) -> None:
    path = shared / "seed/official_deeplab_v3.yaml"
    assert load(path) == loaded(tmp_path, text=OFFICIAL)


def test_other_dtypes_do_without_calibration(tmp_path: Path) -> None:
    config = loaded(tmp_path, "backend.dtype=fp16", text=OFFICIAL)
    assert config.without_effect[-3:] == ("backend.quantize", "dataset.path", "dataset.sampler")


@pytest.mark.parametrize("section", [*NO_EFFECT])
def test_every_key_of_the_hardware_is_accepted_and_kept(section: str, tmp_path: Path) -> None:
    content = yaml.safe_load(OFFICIAL)
    target = content
    for part in section.split("."):
        target = target.setdefault(part, {})
    for number, key in enumerate(NO_EFFECT[section]):
        target[key] = [{"any": number}, None, 1.5]
    config = loaded(tmp_path, text=yaml.safe_dump(content))
    assert {f"{section}.{key}" for key in NO_EFFECT[section]} <= {*config.without_effect}
    again = yaml.safe_load(config.to_yaml())
    for part in section.split("."):
        again = again[part]
    assert all(again[key] == target[key] for key in NO_EFFECT[section])


RESOLVED = [
    (OFFICIAL, ()),
    (SHORT, ()),
    (SHORT, ("frontend.shape=null", "evaluate={data: 'voc:/data:val', protocol: native, ids: i}")),
    (SHORT, ("backend={dtype: fp16, engine: openvino, uint8_input: yes, no_rewrite: [a, b]}",)),
    (OFFICIAL, ("backend.compile.output_ddr=[-1, 1]", "frontend.model_kwargs={a: {b: 1}}")),
    (OFFICIAL, ("graph={extra_ops: {type: null}}", "workspace.workers=4", "name=模型")),
    (
        with_steps(
            step("DecodeImage", cv2_flags=1, backend="pillow"),
            step("CvtColor", code="COLOR_RGB2BGR"),
            step("Resize", size=[64, -1], adaptive_side="long"),
            step("Pad", pad_to_square=True),
            step("Normalize", norm_type=None, div255=False),
            step("ToTensor"),
        ),
        ("frontend.labels=voc", "frontend.output_stride=8"),
    ),
]


@pytest.mark.parametrize(("text", "overrides"), RESOLVED)
def test_resolved_reads_as_the_same(text: str, overrides: tuple[str, ...], tmp_path: Path) -> None:
    config = loaded(tmp_path, *overrides, text=text)
    again = loaded(tmp_path, text=config.to_yaml())
    assert again == config
    assert again.to_yaml() == config.to_yaml()
    assert again.preprocess() == config.preprocess()
    assert "engine:" in config.to_yaml()


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "calibrate_mode",
            "alibrate_mode",
            "backend.quantize.alibrate_mode: unknown key; did you mean calibrate_mode?",
        ),
        ("name:", "nmae:", "nmae: unknown key; did you mean name?"),
        ("checkpoint:", "chekpoint:", "frontend.chekpoint: unknown key; did you mean checkpoint?"),
        (
            "data_transport_mode",
            "data_transprt_mode",
            "backend.compile.data_transprt_mode: unknown key; did you mean data_transport_mode?",
        ),
        ("suffix", "sufix", "dataset.sampler.sufix: unknown key; did you mean suffix?"),
        (
            "size:",
            "sise:",
            "dataset.process_ops[1].sise: unknown key; did you mean size?",
        ),
        (
            "type: Resize",
            "type: Resise",
            "dataset.process_ops[1].type: unknown type 'Resise'; did you mean Resize?",
        ),
        ("- type: Resize", "- kind: Resize", "dataset.process_ops[1]: expected a mapping with a"),
        (
            "workspace:\n  path",
            "workspace:\n  pat",
            "workspace.pat: unknown key; did you mean path",
        ),
        ("name:", "1: 2\nname:", "1: unknown key; known: backend, dataset, evaluate, frontend"),
        ("dtype: int8", "dtype: int4", "backend.dtype: expected 'fp32', 'fp16' or 'int8', found"),
        ("dtype: int8", "dtype: fp61", "found fp61; did you mean fp16?"),
        ("kl_divergence", "entropy", "backend.quantize.calibrate_mode: expected 'percentile',"),
        ("per_channel: true", "per_channel: 1", "quantize_per_channel: expected true or false"),
        ("dtype: fp32", "dtype: int64", "frontend.dtype: expected 'fp32', found int64"),
        ("get_data_num: 50", "get_data_num: 0", "dataset.sampler.get_data_num: expected"),
        ("type: onnx", "type: keras", "frontend.type: keras is not supported; export the model"),
        ("type: onnx", "type: darknet", "darknet is not supported; export the model to"),
        ("type: onnx", "type: onx", "frontend.type: unknown type 'onx'; did you mean onnx?"),
        ("type: onnx", "type: mobilenet_v2_imagenet", "frontend.type: unknown type 'mobilenet"),
        ("name: official_deeplab_v3_int8", "name: a/b", "name: expected the name of a folder"),
        ("name: official_deeplab_v3_int8", "name: ..", "name: expected the name of a folder"),
        ("name: official_deeplab_v3_int8", "name: ''", "name: expected the name of a folder"),
        ("name: official_deeplab_v3_int8", "", "name: missing; add it"),
        ("    - 513\n    - 513\n", "    - 513\n", "frontend.shape: expected {input: [1, 3, height"),
        ("    - 3\n", "    - 2\n", "frontend.shape: expected a batch of images of 3 channels"),
        ("    - 3\n", "    - three\n", "frontend.shape: expected {input: [1, 3, height"),
        ("    - 1\n", "    - -1\n", "all sizes 1 or more, found [-1, 3, 513, 513]"),
        (
            "size: [513, 513]",
            "size: [512, 512]",
            "dataset.process_ops: makes images of 512×512, frontend.shape expects 513×513",
        ),
        ("  type: tvm_vacc\n", "  type: tvm_vacc\n  dtype: fp16\n", "the key 'dtype' occurs twice"),
        ("dtype: int8", "dtype: [int8", "not valid YAML: "),
        ("dtype: int8", "dtype: a: b", "line 16, column 11: not valid YAML: mapping values"),
        ("backend:", "backend: fast\nx:", "x: unknown key"),
        (
            "workspace:\n",
            "workspace: here\nevaluate:\n",
            "evaluate.path: unknown key; known: data, ids, p",
        ),
    ],
)
def test_mistakes(old: str, new: str, expected: str, tmp_path: Path) -> None:
    assert old in OFFICIAL
    assert expected in complaint(tmp_path, text=OFFICIAL.replace(old, new, 1))


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("backend.dtyp=fp16", "backend.dtyp: unknown key; did you mean dtype?"),
        ("backnd.dtype=fp16", "backnd: unknown key; did you mean backend?"),
        ("name.x=1", "'name.x=1': name is text; set it as a whole"),
        ("backend.dtype", "'backend.dtype': expected key=value, as backend.dtype=fp16"),
        ("=1", "'=1': expected key=value"),
        ("backend..dtype=1", "expected key=value"),
        ("backend.dtype=[", "'backend.dtype=[': line 1, column 2: not valid YAML"),
        ("backend.dtype={a: 1, a: 2}", "the key 'a' occurs twice"),
        ("frontend.labels=vocc", "frontend.labels: unknown labels 'vocc'; did you mean voc?"),
        ("frontend.output_stride=4", "frontend.output_stride: expected 8 or 16, found 4"),
        ("frontend.shape={a: [1, 3, 8, 8], b: [1]}", "frontend.shape: expected one input, found"),
        ("frontend.shape={a: [[1, 3, 8, 8], [1, 3, 9, 9]]}", "frontend.shape: expected one fixed"),
        ("frontend.shape={a: {min: [1], max: [2]}}", "frontend.shape: expected one fixed shape"),
        ("frontend.shape=513", "frontend.shape: expected {input: [1, 3, height, width]}, found"),
        ("frontend.checkpoint=null", "frontend: checkpoint is missing: name the file, as type is"),
        ("frontend=null", "frontend: missing; add it"),
        ("graph.extra_ops={type: softmax}", "graph.extra_ops: softmax would change what"),
        ("graph.extra_ops=[{type: yolo_nms, params: {}}]", "graph.extra_ops: yolo_nms would"),
        ("evaluate={protocol: native}", "evaluate.data: missing; add it"),
        ("evaluate={data: x, protocol: squash}", "evaluate.protocol: protocol 'squash': expected"),
        ("backend.no_rewrite=pooling", "backend.no_rewrite: expected a list, found pooling"),
        ("backend.quantize.skip_conv_layers=[a]", "backend.quantize.skip_conv_layers[0]: expected"),
        ("backend.compile=3", "backend.compile: expected"),
        ("dataset.process_ops=3", "dataset.process_ops: expected a list, found 3"),
        ("name=3", "name: expected text, found 3"),
    ],
)
def test_overrides_that_are_wrong(override: str, expected: str, tmp_path: Path) -> None:
    assert expected in complaint(tmp_path, override)


@pytest.mark.parametrize(
    ("shape", "dims"),
    [
        ("[2, 3, 64, 96]", (2, 3, 64, 96)),
        ("[2, 64, 96, 3]", (2, 3, 64, 96)),
        ("[2, 1, 64, 96]", (2, 3, 64, 96)),
        ("[2, 64, 96, 1]", (2, 3, 64, 96)),
        ("[2, 3, 64, 3]", (2, 3, 64, 3)),
    ],
)
def test_a_shape_may_be_that_of_the_file(
    shape: str, dims: tuple[int, int, int, int], tmp_path: Path
) -> None:
    """Channels last or grey; what is compiled sees three channels first."""
    config = loaded(tmp_path, f"frontend.shape={{input: {shape}}}")
    assert config.frontend.dims == dims


@pytest.mark.parametrize(
    ("overrides", "engine"),
    [
        ([], "auto"),
        (["backend.engine=tensorrt"], "onnxruntime"),
        (["backend.engine=openvino"], "openvino"),
        (["backend.precision=bf16"], "openvino"),
    ],
)
def test_what_runs_the_model_here(overrides: list[str], engine: str, tmp_path: Path) -> None:
    assert loaded(tmp_path, *overrides).backend.measured_on == engine


def test_a_standalone_graph_is_not_of_bf16(tmp_path: Path) -> None:
    override = "backend={precision: bf16, standalone: true}"
    assert "standalone: a graph cannot say that it is computed in bf16" in complaint(
        tmp_path, override
    )


def test_overrides_are_yaml_and_the_later_wins(tmp_path: Path) -> None:
    config = loaded(
        tmp_path,
        "backend.no_rewrite=[a, b]",
        "frontend.shape={images.1: [2, 3, 64, 96]}",
        "backend.dtype=fp16",
        "backend.dtype=int8",
        "workspace.path=a=b",
        "dataset.sampler.suffix=",
    )
    assert config.backend.no_rewrite == ("a", "b")
    assert config.frontend.shape == {"images.1": (2, 3, 64, 96)}
    assert config.backend.dtype == "int8"
    assert config.folder == Path("a=b/x")
    assert loaded(tmp_path, "workspace.path=~/a").folder == Path.home() / "a" / "x"
    assert config.dataset is not None
    assert config.dataset.sampler.suffix is None


def test_sections_may_be_empty(tmp_path: Path) -> None:
    empty = "\n".join(f"{key}:" for key in ("graph", "backend", "dataset", "evaluate", "workspace"))
    assert loaded(tmp_path, text=f"{SHORT}\n{empty}\n") == loaded(tmp_path)
    assert loaded(tmp_path, text=f"{SHORT}\nbackend:\n  compile:\n  quantize:\n") == loaded(
        tmp_path
    )


def test_anchors_are_one_value(tmp_path: Path) -> None:
    text = SHORT + "backend: &b {dtype: fp16}\nevaluate: {<<: {data: 'voc:a:val'}, ids: z}\n"
    assert loaded(tmp_path, text=text).evaluate is not None


@pytest.mark.parametrize("text", ["", "- 1", "text", "3"])
def test_no_mapping(text: str, tmp_path: Path) -> None:
    assert "expected keys such as name and frontend, found" in complaint(tmp_path, text=text)


def test_unreadable(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: no such file$"):
        load(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="not a readable YAML file"):
        load(tmp_path)
    (tmp_path / "x.yaml").write_bytes(b"name: \xff")
    with pytest.raises(ConfigError, match="not a readable YAML file"):
        load(tmp_path / "x.yaml")
    assert "not valid YAML" in complaint(tmp_path, text="name: \x00")
    assert "not valid YAML: found undefined alias" in complaint(tmp_path, text="name: *unknown")
    assert "not valid YAML" in complaint(tmp_path, text="a: 1\n---\na: 2\n")


RESIZE = step("Resize", size=[64, 96])
NORMALIZE = step("Normalize", **IMAGENET)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([RESIZE, NORMALIZE], {"size": (64, 96), "fit": "squash"}),
        ([step("Resize", size=64), NORMALIZE], {"size": (64, 64)}),
        ([{**RESIZE, "backend": "pillow"}, NORMALIZE], {"interpolation": "pillow-bilinear"}),
        ([{**RESIZE, "interpolation": "bicubic"}, NORMALIZE], {"interpolation": "opencv-bicubic"}),
        (
            [step("Resize", size=[80, 100]), step("CenterCrop", crop_size=[64, 96]), NORMALIZE],
            {"size": (64, 96), "fit": "crop", "resize": (80, 100)},
        ),
        (
            [step("Resize", size=[80, -1]), step("CenterCrop", crop_size=64), NORMALIZE],
            {"size": (64, 64), "fit": "crop", "resize": 80},
        ),
        (
            [
                step("Resize", size=[64, -1], adaptive_side="long"),
                step("Pad", pad_to_square=True),
                NORMALIZE,
            ],
            {"size": (64, 64), "fit": "letterbox", "origin": (0, 0), "padding": (0, 0, 0)},
        ),
        (
            [RESIZE, step("Pad", pad_to_square=True), NORMALIZE],
            {"size": (96, 96), "fit": "letterbox", "resize": (64, 96), "origin": (0, 0)},
        ),
        (
            [step("Resize", size=64), step("Pad", pad_to_square=True), NORMALIZE],
            {"size": (64, 64), "fit": "squash"},
        ),
        ([RESIZE, step("Pad"), NORMALIZE], {"size": (64, 96), "fit": "squash"}),
        (
            [step("CvtColor", code="COLOR_RGB2BGR"), RESIZE, NORMALIZE],
            {"colour": "bgr", "mean": (0.485, 0.456, 0.406)},
        ),
        (
            [
                step("CvtColor", code="COLOR_RGB2BGR"),
                RESIZE,
                step("CvtColor", code="COLOR_BGR2RGB"),
                NORMALIZE,
            ],
            {"colour": "rgb"},
        ),
        ([RESIZE, step("Normalize", **IN_BYTES, div255=False)], {"normalisation": "mean-std"}),
        ([RESIZE, step("Normalize", norm_type=None)], {"normalisation": "div255"}),
        ([RESIZE, step("Normalize", norm_type="None")], {"normalisation": "div255"}),
        ([RESIZE, step("Normalize", norm_type=None, div255=False)], {"normalisation": "none"}),
        (
            [RESIZE, step("Normalize", mean=127.5, std=127.5, div255=False)],
            {"normalisation": "mean-std", "mean": (127.5, 127.5, 127.5)},
        ),
        ([RESIZE, step("Normalize", mean=0, std=1)], {"normalisation": "div255-mean-std"}),
        ([RESIZE, step("Normalize", mean=0, std=1, div255=False)], {"normalisation": "mean-std"}),
    ],
)
def test_steps(steps: list[dict[str, Any]], expected: dict[str, Any], tmp_path: Path) -> None:
    config = loaded(tmp_path, text=with_steps(step("DecodeImage"), *steps, step("ToTensor", **{})))
    preprocess = config.preprocess()
    assert preprocess is not None
    assert {key: getattr(preprocess, key) for key in expected} == expected
    assert config.notes == ()


@pytest.mark.parametrize(
    ("normalize", "formula", "note"),
    [
        (IN_BYTES, "mean-std", "units of 0–255, so values are not divided by 255 first"),
        ({**IN_BYTES, "div255": True}, "mean-std", "units of 0–255, so values are not divided"),
        ({**IMAGENET, "div255": False}, "div255-mean-std", "units of 0–1, so values are divided"),
        ({**IMAGENET, "norm_type": None}, "div255", "norm_type is null, so mean and std are not"),
        (None, "none", "has no Normalize: the network gets values of 0–255"),
    ],
)
def test_what_is_decided_is_said(
    normalize: dict[str, Any] | None, formula: str, note: str, tmp_path: Path
) -> None:
    last = [] if normalize is None else [step("Normalize", **normalize)]
    config = loaded(tmp_path, text=with_steps(step("DecodeImage"), RESIZE, *last))
    preprocess = config.preprocess()
    assert preprocess is not None
    assert preprocess.normalisation == formula
    [said] = config.notes
    assert note in said


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([NORMALIZE], "dataset.process_ops: images come in any size; put a Resize before"),
        ([step("CenterCrop", crop_size=64)], "[0] CenterCrop: images come in any size; put a"),
        ([step("Resize", size=[64, -1])], "[0] Resize: size [64, -1] on the short side leaves"),
        ([step("Resize", size=[64, -1], adaptive_side="long")], "on the long side leaves images"),
        (
            [
                step("Resize", size=[64, -1], adaptive_side="height"),
                step("CenterCrop", crop_size=9),
            ],
            "on the height side leaves images of differing size",
        ),
        ([step("Resize", size=[-1, 64])], "process_ops[0]: size: expected [height, width] or [N"),
        ([step("Resize", size=[64])], "dataset.process_ops[0].size[1]: missing"),
        ([step("Resize")], "dataset.process_ops[0].size: missing; add it"),
        ([step("CenterCrop", crop_size=[0, 4])], "crop_size: expected pixels, found [0, 4]"),
        (
            [step("Resize", size=[32, -1]), step("CenterCrop", crop_size=64), NORMALIZE],
            "dataset.process_ops: a crop of (64, 64) does not fit",
        ),
        ([{**RESIZE, "interpolation": "nearest"}], "[0] Resize: interpolation nearest: expected"),
        ([{**RESIZE, "interpolation": "bilinar"}], "found bilinar; did you mean bilinear?"),
        ([RESIZE, RESIZE], "dataset.process_ops[1] Resize: occurs twice; keep one"),
        ([NORMALIZE, RESIZE], "[1] Resize: comes after Normalize; expected the order DecodeImage"),
        ([RESIZE, step("DecodeImage")], "[1] DecodeImage: comes after Resize; expected the order"),
        (
            [RESIZE, step("CenterCrop", crop_size=8), step("Pad", pad_to_square=True)],
            "[2] Pad: follows CenterCrop; crop to the size of the network instead",
        ),
        (
            [RESIZE, NORMALIZE, step("CvtColor", code="COLOR_RGB2BGR")],
            "[2] CvtColor: comes after Normalize; move it before",
        ),
        (
            [step("CvtColor", code="COLOR_BGR2RGB"), RESIZE, NORMALIZE],
            "[0] CvtColor: code COLOR_BGR2RGB expects BGR, but the image is RGB there",
        ),
        ([step("CvtColor", code="COLOR_RGB2YCrCb")], "process_ops[0].code: expected 'COLOR_RGB2B"),
        ([step("ChannelSplit", index=0), RESIZE, NORMALIZE], "[0] ChannelSplit: keeps one channel"),
        ([RESIZE, step("Normalize", mean=0.5)], "[1] Normalize: std is missing; add it, or norm_t"),
        ([RESIZE, step("Normalize")], "[1] Normalize: mean is missing"),
        ([RESIZE, step("Normalize", mean=0, std=[1, 0, 1])], "std: expected positive numbers"),
        ([RESIZE, step("Normalize", norm_type="max")], "norm_type: expected 'mean_std', found max"),
        ([RESIZE, step("Normalize", div255=1)], "process_ops[1].div255: expected true or false"),
        ([step("DecodeImage", cv2_flags=0)], "process_ops[0].cv2_flags: expected 1, found 0"),
        ([step("DecodeImage", backend="magick")], "process_ops[0].backend: expected 'opencv', 'cv"),
    ],
)
def test_steps_that_cannot_be(steps: list[dict[str, Any]], expected: str, tmp_path: Path) -> None:
    assert expected in complaint(tmp_path, text=with_steps(*steps))


def test_parameters_of_steps_without_effect(tmp_path: Path) -> None:
    text = with_steps(step("DecodeImage", backend="opencv"), {**RESIZE, "backend": "cv2"})
    assert loaded(tmp_path, text=text).without_effect == ("dataset.process_ops[0].backend",)
