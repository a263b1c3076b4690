"""What a client may rely on: every rule the checker knows, and what a breach of one looks like."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Rule(StrEnum):
    """One promise of the wire each. The comment says what holds when the rule is kept."""

    # Frames and fields
    FRAME_BINARY = "frame-binary"  # every frame is a text frame
    FRAME_JSON = "frame-json"  # every frame is one JSON object
    TYPE_UNKNOWN = "type-unknown"  # every `type` is one the SDK knows
    TYPE_MISPLACED = "type-misplaced"  # nothing that GA retired, nothing that only other transports carry
    SCHEMA = "schema"  # every required field is there and has its type
    EVENT_ID = "event-id"  # no event_id comes twice
    ERROR_SHAPE = "error-shape"  # an error has a type and a message
    ERROR_REFERENCE = "error-reference"  # error.event_id is an id that the client sent
    UNANSWERED = "unanswered"  # what a client sends is answered, or refused with an error
    UNASKED = "unasked"  # and what only ever answers a request comes only when asked for

    # Session
    SESSION_FIRST = "session-first"  # session.created comes before anything else
    SESSION_AGAIN = "session-again"  # and only once
    SESSION_SHAPE = "session-shape"  # the session object is always the full effective one
    SESSION_ID = "session-id"  # the session keeps its id through every handover
    SESSION_ECHO = "session-echo"  # what the client set is what the client sees
    ORCHESTRATOR = "orchestrator"  # session.orchestrator tells call_id, tier, rung and reason
    TIER_METADATA = "tier-metadata"  # response.metadata tells tier and rung

    # Responses
    RESPONSE_ID = "response-id"  # no response id comes twice
    RESPONSE_SHAPE = "response-shape"  # a response has id, object, status, output and conversation_id
    RESPONSE_SETTINGS = "response-settings"  # and shows the session's settings, or those its request gave
    RESPONSE_UNKNOWN = "response-unknown"  # events name a response that was created
    RESPONSE_OVER = "response-over"  # nothing refers to a response after its response.done
    RESPONSE_DONE_AGAIN = "response-done-again"  # one response.done for a response
    RESPONSE_OPEN = "response-open"  # and never none
    RESPONSE_OVERLAP = "response-overlap"  # one default-conversation response at a time
    RESPONSE_STATUS = "response-status"  # in_progress at first, final at the end
    RESPONSE_OUTPUT = "response-output"  # response.done lists the items that were streamed, in order
    RESPONSE_CONVERSATION = "response-conversation"  # conversation_id stays, and is the same for all
    USAGE_MISSING = "usage-missing"  # a completed response has usage
    USAGE_SUM = "usage-sum"  # and its sums add up
    STATUS_REASON = "status-reason"  # status_details is of the allowed set and fits the status
    REASON_FALSE = "reason-false"  # client_cancelled needs a cancel, turn_detected needs speech
    METADATA = "metadata"  # at most 16 strings, keys <= 64, values <= 512 characters
    METADATA_LOST = "metadata-lost"  # the client's metadata is echoed and stays

    # Items
    ITEM_ID = "item-id"  # no item id comes twice
    ITEM_SHAPE = "item-shape"  # an item has id, type and, while it is streamed, status and content
    ITEM_AGAIN = "item-again"  # an item is opened once and closed once
    ITEM_UNKNOWN = "item-unknown"  # events name an item that was announced
    ITEM_OPEN = "item-open"  # an item is closed before its response, and in the conversation too
    ITEM_OVER = "item-over"  # nothing is streamed into a closed item
    ITEM_UNANNOUNCED = "item-unannounced"  # conversation.item.added comes before an item's content
    ITEM_OUT_OF_BAND = "item-out-of-band"  # out-of-band responses leave the conversation alone
    ITEM_STATUS = "item-status"  # in_progress at first; completed or incomplete at the end
    ITEM_CHANGED = "item-changed"  # an item keeps its type, role, name and call_id
    PREVIOUS_ITEM = "previous-item"  # previous_item_id is null or an announced item
    OUTPUT_INDEX = "output-index"  # items of a response come in rising order, each with its own index

    # Parts and deltas
    PART_OUTSIDE_ITEM = "part-outside-item"  # a part belongs to an open message item
    PART_AGAIN = "part-again"  # a part is opened once and closed once
    PART_OPEN = "part-open"  # and closed before its item
    PART_TYPE = "part-type"  # `audio` and `text` in parts, `output_*` in items, deltas of that kind
    CONTENT_INDEX = "content-index"  # the parts of an item count from 0
    STREAM_OPEN = "stream-open"  # each stream of a part has its `.done` before the part's
    STREAM_AGAIN = "stream-again"  # and nothing after its `.done`
    DELTA_OUTSIDE_PART = "delta-outside-part"  # a delta belongs to an open part
    DELTA_BASE64 = "delta-base64"  # audio is base64
    DELTA_ODD = "delta-odd"  # PCM deltas hold whole samples
    CONTENT_MISMATCH = "content-mismatch"  # the words of the deltas, the `.done` and the item agree

    # Function calls
    CALL_ID = "call-id"  # a call_id is not empty, at most 32 characters, and never reused
    CALL_KIND = "call-kind"  # argument events belong to a function_call item
    CALL_NAME = "call-name"  # arguments.done carries the function's name
    CALL_ARGUMENTS = "call-arguments"  # a completed call had arguments.done, a JSON object
    CALL_ACTED = "call-acted"  # an incomplete call never had arguments.done: clients act on it

    # The caller's audio
    SPEECH_ORDER = "speech-order"  # speech_started, speech_stopped, committed
    SPEECH_ITEM = "speech-item"  # all three for the same item
    AUDIO_MS = "audio-ms"  # audio_start_ms and audio_end_ms never go back
    COMMITTED_LOST = "committed-lost"  # a committed item is added to the conversation
    COMMITTED_MISSING = "committed-missing"  # a spoken item is committed before it is added
    TRANSCRIPTION_ITEM = "transcription-item"  # transcriptions name an item that was committed or added
    TRANSCRIPTION_UNASKED = "transcription-unasked"  # and come only where the session has transcription on
    TRANSCRIPTION_USAGE = "transcription-usage"  # a completed transcription has usage
    TRANSCRIPTION_AGAIN = "transcription-again"  # one completed or failed, and nothing after it
    TRANSCRIPTION_LOST = "transcription-lost"  # where transcription is on, every turn gets one


@dataclass(frozen=True, slots=True)
class Violation:
    """`index` counts the frames of the log from 0; at the end of the log it is the number of frames."""

    rule: Rule
    index: int
    sentence: str

    def __str__(self) -> str:
        return f"[{self.rule}] frame {self.index}: {self.sentence}"
