"""Settings: the order of the layers, what is refused, and what YAML would rather read."""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tileup.cli.main import main
from tileup.cli.options import PlanOptions, UpscaleOptions
from tileup.errors import UsageError
from tileup.resources import resource
from tileup.settings import yaml_files
from tileup.settings.layers import from_environment, layered, merged, notes_on, resolve
from tileup.settings.setting import TOP, Flag, NamedFlag, Panel, flags_of, in_order
from tileup.settings.typed import checked
from tileup.settings.values import (
    ALIASES,
    FLAGS,
    Settings,
    did_you_mean,
    parse_size,
    parse_weighted,
)
from tileup.settings.yaml_files import (
    preset_names,
    read_config,
    read_family,
    read_preset,
    to_yaml,
)


@pytest.fixture
def config(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a config file."""

    def write(text: str) -> Path:
        path = tmp_path / "config.yaml"
        path.write_text(text)
        return path

    return write


def test_each_layer_wins_over_the_ones_below_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: Callable[[str], Path]
) -> None:
    for folder, name, tile in (("families", "toy", 101), ("presets", "toy", 102)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{name}.yaml").write_text(f"tile: {tile}\n")
    monkeypatch.setattr(yaml_files, "resource", lambda name: tmp_path)
    sources: dict[str, object] = {
        "family": "toy",
        "preset": "toy",
        "config": config("tile: 103"),
        "environment": {"TILEUP_TILE": "104"},
        "flags": {"tile": 105},
    }
    seen = [Settings().tile]
    for count in range(1, len(sources) + 1):
        seen.append(resolve(**dict(list(sources.items())[:count])).tile)  # type: ignore[arg-type]
    assert seen == [128, 101, 102, 103, 104, 105]


def test_layers_are_merged_setting_by_setting() -> None:
    found = resolve(environment={"TILEUP_STEPS": "3"}, flags={"min-denoise": 0.1})
    assert (found.steps, found.min_denoise, found.max_denoise) == (3, 0.1, 0.8)


def test_one_way_to_size_the_output_replaces_another_from_a_lower_layer() -> None:
    assert merged({"scale": 3.0, "seed": 1}, {"long_edge": 99}) == {"seed": 1, "long_edge": 99}
    assert merged({"size": "9x9"}, {"scale": 2.0}) == {"scale": 2.0}
    assert merged({"size": "9x9"}, {"scale": 2.0, "size": None}) == {"scale": 2.0, "size": None}


def test_denoise_sets_both_strengths_and_exact_names_win_over_it() -> None:
    found = resolve(flags={"denoise": 0.4, "max_denoise": 0.6})
    assert (found.min_denoise, found.max_denoise) == (0.4, 0.6)


@pytest.mark.parametrize(
    "text", ["min_denoise: 0.1\nmin-denoise: 0.3", "seed: 1\nseed: 2", "tile: 64\n'tile': 64"]
)
def test_a_setting_given_twice_is_refused(config: Callable[[str], Path], text: str) -> None:
    with pytest.raises(UsageError, match="twice"):
        resolve(config=config(text))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"scale": 0.5}, "scale must be between 1 and 16, got 0.5"),
        ({"scale": float("nan")}, "scale must be between 1 and 16"),
        ({"size": "12"}, "size must be WIDTHxHEIGHT in pixels, such as 1920x1080, got '12'"),
        ({"size": "0x5"}, "size must be at least 1x1"),
        ({"size": "9x9", "long_edge": 9}, "only one of size and long-edge can be given"),
        ({"max_pixels": 0}, "max-pixels must be at least 1, got 0"),
        ({"denoise": 2}, "^denoise must be between 0 and 1, got 2"),
        ({"min_denoise": -0.1}, "min-denoise must be between 0 and 1, got -0.1"),
        ({"max_denoise": float("nan")}, "max-denoise must be between 0 and 1"),
        ({"min_denoise": 0.9}, r"min-denoise \(0.9\) is above max-denoise \(0.8\)"),
        ({"denoise_mode": "schedul"}, "denoise-mode 'schedul' is not known; did you mean"),
        ({"tile": 16}, r"tile \(16\) is below min-tile \(32\)"),
        ({"min_tile": 0}, "min-tile must be at least 1"),
        ({"detail_metric": "varience"}, "did you mean 'variance'"),
        ({"detail_threshold": "low"}, "detail-threshold must be a number or 'auto', got 'low'"),
        ({"detail_threshold": -1.0}, "detail-threshold must be a number from 0"),
        ({"window": 4}, "window must be at least 8, got 4"),
        ({"overlap": -1}, "overlap must be at least 0, got -1"),
        ({"batch": 0}, "batch must be at least 1, got 0"),
        ({"weights": "feathers"}, "did you mean 'feather'"),
        ({"steps": 0}, "steps must be between 1 and 1000"),
        ({"seed": -1}, "seed must be between"),
        ({"deblock": "maybe"}, "deblock 'maybe' is not known"),
        ({"texture": 1.5}, "texture must be between 0 and 1, got 1.5"),
        ({"threads": 0}, "threads must be at least 1"),
        ({"quality": 101}, "quality must be between 1 and 100"),
        ({"max_input_pixels": 0}, "max-input-pixels must be at least 1"),
        ({"format": "jpge"}, "did you mean 'jpg'|did you mean 'jpeg'"),
    ],
)
def test_what_cannot_be_right_is_refused_in_words(values: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        resolve(flags=values)


def test_every_setting_is_a_flag_that_explains_itself() -> None:
    assert [each.name for each in FLAGS] == [field.name for field in dataclasses.fields(Settings)]
    for each in FLAGS:
        assert each.help.endswith("."), each.name
        assert "{default}" not in each.help


def test_defaults_in_the_help_are_those_of_the_settings() -> None:
    told = {each.name: each.help for each in FLAGS}
    assert told["scale"].endswith("(default: 2).")
    assert told["scale_range"].endswith("(default: 0.25).")
    assert "(default: {stem}_{scale}x.{ext};" in told["name"]
    assert told["max_input_pixels"].endswith("(default: 200000000).")


def test_no_two_flags_are_spelt_alike() -> None:
    flags = (*flags_of(UpscaleOptions), *FLAGS)
    names = [name for each in flags for spelt in each.names for name in spelt.split("/")]
    names += [name for each in ALIASES.values() for name in each.flag.names.split()]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize(
    ("options", "without"), [(UpscaleOptions, None), (PlanOptions, Panel.OUTPUT)]
)
def test_the_help_lists_each_flag_once_and_panel_by_panel(
    options: type, without: Panel | None
) -> None:
    settings = [each for each in FLAGS if each.flag.panel is not without]
    flags = (*flags_of(options), *settings)
    ordered = in_order(flags)
    assert sorted(each.name for each in ordered) == sorted(each.name for each in flags)
    panels = [each.flag.panel for each in ordered]
    assert [panel for panel, _ in itertools.groupby(panels)] == [None, *Panel]


def test_a_flag_follows_the_one_it_names_or_was_written_after() -> None:
    def named(name: str, behind: str = "") -> NamedFlag:
        return NamedFlag(name, str, "", Flag(Panel.SIZE, "", "", behind=behind))

    def order(*flags: NamedFlag) -> list[str]:
        return [each.name for each in in_order(flags)]

    a, b, c = named("a"), named("b"), named("c")
    assert order(a, b, c) == ["a", "b", "c"]
    assert order(a, b, c, named("d", "a"), named("e")) == ["a", "d", "e", "b", "c"]
    assert order(a, b, named("c", "absent")) == ["a", "b", "c"]
    assert order(named("d", "b"), named("a", TOP), b) == ["a", "b", "d"]


# --- presets and files that are named elsewhere than in flags --------------------------------


def test_a_preset_can_be_named_in_a_variable_and_in_a_file(config: Callable[[str], Path]) -> None:
    file, smoke = config("preset: subtle\nmax-denoise: 0.6"), {"TILEUP_PRESET": "smoke"}
    found = resolve(config=file)
    assert (found.min_denoise, found.max_denoise) == (0.3, 0.6), "the file wins over its preset"
    assert resolve(environment=smoke).steps == 2
    assert resolve(environment={"TILEUP_PRESET": ""}) == Settings()
    found = resolve(config=file, environment=smoke)
    assert (found.steps, found.min_denoise, found.max_denoise) == (2, 0.2, 0.6)
    assert resolve(preset="uniform", config=file, environment=smoke).min_denoise == 0.5
    with pytest.raises(UsageError, match="preset 'phot' is not known; did you mean 'photo'"):
        resolve(environment={"TILEUP_PRESET": "phot"})


def test_a_config_can_be_named_in_a_variable(tmp_path: Path) -> None:
    for name, seed in (("a.yaml", 1), ("b.yaml", 2)):
        (tmp_path / name).write_text(f"seed: {seed}\n")
    variable = {"TILEUP_CONFIG": str(tmp_path / "a.yaml")}
    assert resolve(environment=variable).seed == 1
    assert resolve(environment=variable, config=tmp_path / "b.yaml").seed == 2
    assert resolve(environment={**variable, "TILEUP_SEED": "3"}).seed == 3
    with pytest.raises(UsageError, match=r"config absent.yaml: cannot be read"):
        resolve(environment={"TILEUP_CONFIG": "absent.yaml"})


def test_habits_lie_below_what_is_asked_for(tmp_path: Path) -> None:
    habits, file = tmp_path / "habits.yaml", tmp_path / "file.yaml"
    habits.write_text("max-denoise: 0.4\nseed: 1\ntile: 96\n")
    file.write_text("tile: 64\n")
    assert resolve(habits=habits).max_denoise == 0.4
    found = resolve(habits=habits, config=file, preset="subtle", flags={"seed": 2})
    assert (found.max_denoise, found.tile, found.seed) == (0.5, 64, 2)
    habits.write_text("preset: subtle\nmax-denoise: 0.6\n")
    assert resolve(habits=habits).max_denoise == 0.6, "over the preset that it names"
    habits.write_text("preset: subtle\nseed: 1\n")
    found = resolve(habits=habits, preset="smoke")
    assert (found.min_denoise, found.steps, found.seed) == (0.2, 2, 1), "one preset at a time"


def test_the_users_own_file_is_read_by_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "tileup").mkdir()
    (tmp_path / "tileup" / "config.yaml").write_text("seed: 77\n")
    assert main(["upscale", "--print-config", "-v"]) == 0
    shown = capsys.readouterr()
    assert "seed: 77\n" in shown.out
    assert str(tmp_path / "tileup" / "config.yaml") in shown.err
    (tmp_path / "tileup" / "config.yaml").write_text("sed: 77\n")
    assert main(["plan", "--print-config"]) == 2
    assert "unknown setting 'sed'; did you mean 'seed'" in capsys.readouterr().err


def test_a_preset_below_a_file_that_sets_all_of_it_has_no_effect(
    config: Callable[[str], Path],
) -> None:
    whole = config(to_yaml(Settings()))
    (note,) = notes_on(layered(preset="subtle", config=whole))
    assert note == f"preset subtle has no effect: config {whole} sets all that it sets."
    assert [*notes_on(layered(preset="subtle", config=config("max-denoise: 0.6")))] == []
    assert [*notes_on(layered(preset="subtle", flags={"denoise": 0.3}))] == []


def test_equal_strengths_are_noted_only_where_nobody_asked_for_them(
    config: Callable[[str], Path],
) -> None:
    (note,) = notes_on(layered(flags={"min_denoise": 0.8}))
    assert note == "min-denoise equals max-denoise: every tile has strength 0.8."
    (note,) = notes_on(layered(config=config("max-denoise: 0.3"), flags={"min_denoise": 0.3}))
    assert "strength 0.3" in note
    for asked in (
        {"flags": {"denoise": 0.3}},
        {"flags": {"min_denoise": 0.3, "max_denoise": 0.3}},
        {"flags": {"min_denoise": 0.8, "denoise_map": "map.png"}},
        {"preset": "uniform"},
        {"environment": {"TILEUP_DENOISE": "0.3"}},
        {"config": config("denoise: 0.3")},
        {},
    ):
        assert [*notes_on(layered(**asked))] == []  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("asked", "steps"),
    [
        ({"denoise": 0.8}, 12),
        ({"denoise": 0.4}, 12),
        ({"denoise": 0.3}, 9),
        ({"denoise": 0.2}, 6),
        ({"denoise": 0.01}, 2),
        ({"denoise": 0.01, "steps": 1}, 1),
        ({"denoise": 0.2, "steps": 12}, 12),
        ({"denoise": 0.0}, 12),
        ({"denoise": 0.2, "denoise_map": "map.png"}, 12),
        ({"min_denoise": 0.1, "max_denoise": 0.2}, 12),
    ],
)
def test_a_weak_strength_everywhere_takes_its_share_of_steps(
    asked: dict[str, object], steps: int
) -> None:
    """SD 1.x takes twelve at its own strongest, 0.4."""
    assert resolve("sd1", flags=asked).steps == steps


def test_the_bundled_model_takes_two_steps_for_weak_strengths() -> None:
    """With one it loses 0.09 dB at 0.2."""
    steps = {strength: resolve("bundled", flags={"denoise": strength}).steps for strength in STEPS}
    assert steps == STEPS
    assert resolve("bundled", flags={"denoise": 0.2, "steps": 1}).steps == 1


STEPS = {0.0: 3, 0.1: 2, 0.2: 2, 0.5: 2, 0.6: 3, 0.8: 3, 1.0: 3}


def test_whoever_says_how_many_steps_gets_them() -> None:
    assert resolve("sd1", preset="smoke", flags={"denoise": 0.1}).steps == 2
    assert resolve("sd1", environment={"TILEUP_STEPS": "7", "TILEUP_DENOISE": "0.1"}).steps == 7


# --- words ----------------------------------------------------------------------------------


def test_nothing_is_suggested_for_words_that_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings are made a dozen times for each picture; looking for near words took most of it."""
    sought: list[str] = []
    near = difflib.get_close_matches

    def seeking(word: str, *rest: object, **more: object) -> list[str]:
        sought.append(word)
        return near(word, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(difflib, "get_close_matches", seeking)
    Settings(denoise_mode="blend", format="webp", windows="spot")
    assert sought == []
    with pytest.raises(UsageError, match="did you mean 'blend'"):
        Settings(denoise_mode="blnd")
    assert sought == ["blnd"]


def test_settings_as_a_dict_are_those_of_the_dataclass() -> None:
    settings = Settings(lora=("a:0.5", "b"), seed=3, skip_larger="70%")
    told = settings.to_dict()
    assert told == {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in dataclasses.asdict(settings).items()
    }
    assert [*told] == [each.name for each in dataclasses.fields(Settings)]
    changed = settings.changed()
    assert changed == {"lora": ["a:0.5", "b"], "seed": 3, "skip_larger": "70%"}
    assert Settings.given(changed) == settings


def test_a_near_word_is_suggested_and_else_all_are_listed() -> None:
    assert did_you_mean("colour", ["color", "size"]) == "; did you mean 'color'?"
    assert did_you_mean("zzz", ["b", "a"]) == "; known are a, b"


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({"config": "max-denois: 0.5"}, "config .*: unknown setting 'max-denois'; did you mean"),
        ({"environment": {"TILEUP_SACLE": "2"}}, "TILEUP_SACLE: unknown .*did you mean 'scale'"),
        ({"flags": {"sacle": 2}}, "settings: unknown setting 'sacle'; did you mean 'scale'"),
        ({"preset": "fhoto"}, "preset 'fhoto' is not known; did you mean 'photo'"),
        ({"environment": {"TILEUP_STEPS": "ten"}}, "TILEUP_STEPS: steps must be a whole number"),
        ({"environment": {"TILEUP_METADATA": "maybe"}}, "TILEUP_METADATA: .*true or false"),
        ({"flags": {"steps": 2.5}}, "steps must be a whole number, got 2.5"),
        ({"flags": {"steps": True}}, "steps must be a whole number, got True"),
        ({"flags": {"metadata": 1}}, "metadata must be true or false, got 1"),
    ],
)
def test_a_wrong_name_or_type_says_where_it_comes_from(
    layer: dict[str, object], message: str, config: Callable[[str], Path]
) -> None:
    if "config" in layer:
        layer = {"config": config(str(layer["config"]))}
    with pytest.raises(UsageError, match=message):
        resolve(**layer)  # type: ignore[arg-type]


# --- environment ----------------------------------------------------------------------------


def test_variables_are_read_as_the_type_of_their_setting() -> None:
    found = from_environment(
        {
            "TILEUP_DENOISE": "0.3",
            "TILEUP_STEPS": "5",
            "TILEUP_METADATA": "No",
            "TILEUP_DETAIL_THRESHOLD": "0.02",
            "TILEUP_MODELS": "/somewhere",
            "TILEUP_SEED": "",
            "HOME": "/root",
        }
    )
    assert found == {
        "min_denoise": 0.3,
        "max_denoise": 0.3,
        "steps": 5,
        "metadata": False,
        "detail_threshold": 0.02,
    }


def test_text_stays_text_where_a_setting_takes_both() -> None:
    assert from_environment({"TILEUP_DETAIL_THRESHOLD": "auto"}) == {"detail_threshold": "auto"}
    assert from_environment({"TILEUP_MODEL": "12"}) == {"model": "12"}


# --- YAML -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("# nothing\n", {}),
        ("scale: 3", {"scale": 3.0}),
        ("detail-threshold: 1e-3", {"detail_threshold": 0.001}),
        ("min-denoise: 2e-1\nmax_denoise: 0.9", {"min_denoise": 0.2, "max_denoise": 0.9}),
        ("size: null", {"size": None}),
        ("metadata: off", {"metadata": False}),
        ("size: 1920x1080", {"size": "1920x1080"}),
        ("\ufeffscale: 3", {"scale": 3.0}),
        ("\ufeff", {}),
    ],
)
def test_config_files_are_read(
    text: str, expected: dict[str, object], config: Callable[[str], Path]
) -> None:
    assert read_config(config(text)).values == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sampler: no", "sampler must be text, got False; in quotes it is text"),
        ("size: 16:9", "size must be text, got 969; in quotes"),
        ("model: 2024-01-01", "model must be text, got datetime.*; in quotes"),
        ("metadata: 7\nprompt: on", "metadata must be true or false, got 7$"),
        ("seed: '7'", "seed must be a whole number, got '7'"),
        ("- scale: 2", "must be lines of `name: value`"),
        ("just words", "must be lines of `name: value`"),
        ("scale: 2\nseed: [1", "config.yaml, line 2: not valid YAML: expected ',' or ']'"),
        ("scale: 2\nprompt: a: b", "line 2: not valid YAML: a second colon; put a value with"),
        ("scale: 2\nseed", "line 2: not valid YAML: a line without a colon"),
        ("a: &x 1\nb: *x", "aliases are not allowed"),
        ("scale: !!python/object/apply:os.getcwd []", "not valid YAML"),
        ("scale: " + "[" * 5000, "not valid YAML: it is nested too deeply"),
        ("\tscale: 2", "line 1: not valid YAML: a tab begins the line; use blanks"),
        ("scale: 2\nlong-edge: 900", "only one of scale and long-edge can be given"),
        ("suffix: _big\nname: a.png", "only one of name and suffix can be given"),
        ("preset: 3", "preset must be a name, got 3"),
        ("preset: fhoto", "preset 'fhoto' is not known; did you mean 'photo'"),
    ],
)
def test_yaml_that_means_something_else_is_refused(
    text: str, message: str, config: Callable[[str], Path]
) -> None:
    with pytest.raises(UsageError, match=message) as told:
        resolve(config=config(text))
    assert "\n" not in str(told.value)


def test_a_config_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"name: \xe9\n")
    (tmp_path / "torn.yaml").write_bytes(b"\xef")
    (tmp_path / "wide.yaml").write_bytes("scale: 3\n".encode("utf-16"))
    (tmp_path / "huge.yaml").write_text("# filler\n" * 200_000)
    cases = {
        "absent.yaml": "cannot be read: No such file or directory",
        "": "cannot be read: Is a directory",
        "latin.yaml": "cannot be read: it is not UTF-8 text",
        "torn.yaml": "cannot be read: it is not UTF-8 text",
        "wide.yaml": "cannot be read: it is not UTF-8 text",
        "huge.yaml": "over 1 MB is not a settings file",
    }
    for name, told in cases.items():
        with pytest.raises(UsageError, match=f"^config .*: {told}$"):
            read_config(tmp_path / name)


def test_a_mark_at_the_beginning_of_a_config_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "marked.yaml").write_bytes(b"\xef\xbb\xbfseed: 3\n")
    assert read_config(tmp_path / "marked.yaml").values == {"seed": 3}


def test_settings_survive_the_way_through_yaml(config: Callable[[str], Path]) -> None:
    asked = {"denoise": 0.35, "sampler": "heun", "seed": 2**60}
    for more in ({"long_edge": 900}, {"size": "9x9"}, {"scale": 3.0}, {"suffix": "_x"}):
        before = resolve(flags=asked | more)
        assert resolve(config=config(to_yaml(before))) == before


# --- shipped files --------------------------------------------------------------------------


def test_the_presets_that_people_were_promised_are_there() -> None:
    assert {"photo", "smoke", "subtle", "uniform"} <= set(preset_names())


@pytest.mark.parametrize("path", sorted(resource("configs").rglob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_configs_are_valid_and_explained_line_by_line(path: Path) -> None:
    lines = path.read_text().splitlines()
    if path.parent.name == "presets":
        assert lines[0].startswith("description: ")
        description, layer = read_preset(path.stem)
        assert description
        assert resolve(preset=path.stem)
    else:
        layer = read_family(path.stem)
        assert resolve(family=path.stem)
    given = [line for line in lines if line and line[0] not in "# " and "description:" not in line]
    assert all(" # " in line for line in given)
    assert layer.values
    assert given


def test_presets_do_what_their_names_say() -> None:
    photo, subtle, uniform, smoke = (
        resolve(preset=name) for name in ("photo", "subtle", "uniform", "smoke")
    )
    assert (photo.min_denoise, photo.max_denoise) == (0.2, 0.8)
    assert subtle.max_denoise - subtle.min_denoise < photo.max_denoise - photo.min_denoise
    assert uniform.min_denoise == uniform.max_denoise
    assert smoke.steps < photo.steps


def test_sizes_are_parsed() -> None:
    assert parse_size("1920X1080") == (1920, 1080)
    for text in ("1920", "x", "1x2x3", "-1x5", "٣x4", "1.5x2"):
        with pytest.raises(UsageError):
            parse_size(text)


def test_checked_leaves_its_argument_alone() -> None:
    raw = {"denoise": 0.5}
    assert checked(raw, "here") == {"min_denoise": 0.5, "max_denoise": 0.5}
    assert raw == {"denoise": 0.5}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a.safetensors", ("a.safetensors", 1.0)),
        ("a.safetensors:0.5", ("a.safetensors", 0.5)),
        ("a:-1", ("a", -1.0)),
        ("C:/x.safetensors", ("C:/x.safetensors", 1.0)),
        ("C:/x.safetensors:2", ("C:/x.safetensors", 2.0)),
    ],
)
def test_a_lora_and_its_weight(text: str, found: tuple[str, float]) -> None:
    assert parse_weighted(text) == found


@pytest.mark.parametrize("number", ["4.1", "-5", "nan", "inf"])
def test_a_weight_without_sense_is_refused(number: str) -> None:
    with pytest.raises(UsageError, match="weight must be between -4 and 4"):
        resolve(flags={"lora": [f"a.safetensors:{number}"]})


def test_several_loras_from_every_layer(config: Callable[[str], Path]) -> None:
    wanted = ("a:0.5", "b")
    assert resolve(flags={"lora": ["a:0.5", "b"]}).lora == wanted
    assert resolve(config=config("lora: ['a:0.5', b]")).lora == wanted
    assert resolve(config=config("lora: a")).lora == ("a",)
    assert resolve(environment={"TILEUP_LORA": os.pathsep.join(["a", "b"])}).lora == ("a", "b")
    with pytest.raises(UsageError, match="lora must be a list of texts"):
        resolve(flags={"lora": [1]})
    assert Settings(lora=wanted).to_dict()["lora"] == [*wanted], "YAML and JSON have lists"
