"""Audio by content key."""

from cache.clip import Clip, CorruptClip, Part, clip_key
from cache.clips import ClipCache, Found, Source
from cache.disk import DiskStore
from cache.forms import FORMS, MEDIA_TYPES, Container, Form, transcode
from cache.shared import RedisStore
from cache.stores import Store

__all__ = [
    "FORMS",
    "MEDIA_TYPES",
    "Clip",
    "ClipCache",
    "Container",
    "CorruptClip",
    "DiskStore",
    "Form",
    "Found",
    "Part",
    "RedisStore",
    "Source",
    "Store",
    "clip_key",
    "transcode",
]
