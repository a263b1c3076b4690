"""Audio by content key."""

from cache.clip import Clip, CorruptClip, clip_key
from cache.clips import ClipCache, Found, Source
from cache.forms import Container, Form, transcode
from cache.stores import DiskStore, RedisStore, Store

__all__ = [
    "Clip",
    "ClipCache",
    "Container",
    "CorruptClip",
    "DiskStore",
    "Form",
    "Found",
    "RedisStore",
    "Source",
    "Store",
    "clip_key",
    "transcode",
]
