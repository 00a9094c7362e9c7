"""A picture as a format can hold it, and what of it is lost, in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from tileup.images import generators, iptc, xmp
from tileup.images.calibration import profile_of_numbers
from tileup.images.colour import without_profile
from tileup.images.extras import placement, stands_apart
from tileup.images.formats.format import Format, Way
from tileup.images.formats.known import FORMATS
from tileup.images.picture import Picture
from tileup.wording import listed

APART = (
    "what the input says about itself stays where programs look for it: how the picture was made "
    "stands in XMP alone"
)


def idle(format: Format, way: Way) -> Iterator[str]:
    """What was asked for beside the defaults and is not used, in sentences of no one picture."""
    usual, names = Way(), format.names
    if way.quality != usual.quality and not names.lossy:
        yield f"quality has no effect in {names.title}, which keeps every pixel"
    elif way.quality not in (usual.quality, 100) and way.lossless and names.lossless:
        yield (
            f"quality has no effect in a {names.title} that keeps every pixel, as the input "
            f"does or --lossless asks for; --lossy gives it one"
        )
    if way.compression != usual.compression and format.name != "png":
        yield f"compression has no effect in {names.title}: it is for png"


@dataclass(slots=True)
class _Fit:
    picture: Picture
    format: Format
    way: Way
    lost: list[str]

    def holds(self, what: str) -> bool:
        return what in self.format.holds


def fitted(picture: Picture, format: Format, way: Way) -> tuple[Picture, tuple[str, ...]]:
    """The picture as the format can hold it; what it cannot hold, in words."""
    fit = _Fit(picture, format, way, [])
    for step in (_alpha, _numbers, _profile, _depth, _loss, _records, _exif, _texts):
        step(fit)
    return fit.picture, tuple(fit.lost)


def _alpha(fit: _Fit) -> None:
    picture = fit.picture
    if picture.alpha is None or fit.holds("alpha"):
        return
    alpha = picture.alpha[..., None]
    fit.picture = replace(picture, pixels=picture.whole * alpha + (1 - alpha), alpha=None)
    fit.lost.append("transparency (the picture is laid over white)")


def _numbers(fit: _Fit) -> None:
    """Colours by number become a profile, where the format has those and not numbers."""
    picture = fit.picture
    if picture.cicp is None or fit.holds("cicp"):
        return
    profile = profile_of_numbers(*picture.cicp)
    fit.picture = replace(picture, cicp=None, icc=profile)
    if profile is None:
        one, other = picture.cicp
        fit.lost.append(
            f"the colours that the input gives by number (CICP {one}/{other}; they will be taken "
            f"for sRGB, and png and avif hold them)"
        )


def _profile(fit: _Fit) -> None:
    if fit.picture.icc is None or fit.holds("icc"):
        return
    fit.picture, lost = without_profile(fit.picture)
    fit.lost.append(lost)


_DEEP = listed([each.name for each in FORMATS if each.write and each.bits == 16])


def _depth(fit: _Fit) -> None:
    picture, bits = fit.picture, fit.format.bits
    if picture.deep and bits < 16 and fit.format.name != picture.format:
        fit.lost.append(f"more than {bits} bits per channel ({_DEEP} hold 16)")


def _loss(fit: _Fit) -> None:
    if fit.way.lossless and not fit.format.names.lossless:
        fit.lost.append("every pixel (--lossless is for the others)")


def _records(fit: _Fit) -> None:
    """IPTC becomes XMP where the format has no place for it."""
    picture = fit.picture
    if picture.iptc is None or fit.holds("iptc") or not fit.holds("xmp"):
        return
    said = xmp.with_lists(picture.xmp, iptc.as_xmp(picture.iptc))
    fit.picture = replace(picture, xmp=said, iptc=None)


def _exif(fit: _Fit) -> None:
    for name, there in (
        ("EXIF", fit.picture.exif),
        ("XMP", fit.picture.xmp),
        ("IPTC", fit.picture.iptc),
    ):
        if there and not fit.holds(name.lower()):
            fit.lost.append(name)


def _texts(fit: _Fit) -> None:
    picture, said = fit.picture, fit.way.said
    if fit.holds("text"):
        return
    if fit.holds("exif"):
        comfy = fit.format.name == "webp"
        lost = placement(picture, said, comments=fit.holds("comment"), comfy=comfy).lost
    else:
        lost = tuple(sorted(generators.personal(picture.text)))
    if lost:
        fit.lost.append(f"the text {', '.join(lost)}")


def is_apart(picture: Picture, format: Format, way: Way) -> bool:
    """Whether what we say of a picture stands in XMP alone, so that others' words can stay."""
    if way.said is None or not format.holds & {"text", "exif"} or format.name == "tif":
        return False
    if "text" in format.holds:
        return stands_apart(picture)
    comments, comfy = "comment" in format.holds, format.name == "webp"
    return placement(picture, way.said, comments=comments, comfy=comfy).apart
