"""Answers clients' batches of plain reads that come in one piece, from bytes to bytes, without a task for the message.

Whatever is not plainly such a batch goes the usual way, through the handler.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from proxy.core.client_batch.batch_form import BatchForm, BatchFrame, split_form
from proxy.core.client_batch.parse import BatchCall, may_hold_batch, read_call
from proxy.core.client_batch.prepared_operations import BatchMessage
from proxy.core.fast_path.head import read_post
from proxy.core.fast_path.head_table import HeadTable
from proxy.core.http import errors
from proxy.core.model import Reply
from proxy.core.reply.link_origin import LinkOrigin, link_origin
from proxy.core.reply.response_head import framed, http_date
from proxy.core.routing.hosts import Head
from proxy.shell.downstream.client_batch import ClientBatches, refusal_of, reply_of
from proxy.shell.downstream.client_batch_slots import ClientBatchSlots
from proxy.shell.downstream.prepared_batches import PreparedBatches
from proxy.shell.downstream.waiting_batch import WaitingBatch
from proxy.shell.http.forms import read_short_form
from proxy.shell.http.protocol import Connection
from proxy.shell.observe.faults import log_fault


@dataclass(slots=True)
class BatchMessages:
    """What knows batches by the bytes of their messages."""

    client_batches: ClientBatches
    prepared: PreparedBatches
    table: HeadTable
    is_leaving: Callable[[], bool]
    callers: set[Any]  # all that are connections
    rewrites_links: bool

    def take(self, connection: Connection, data: bytes) -> bool:
        """Answer *data*, which begins a message on *connection*; False: nothing was done, and it goes the usual way."""
        if not self.client_batches.takes_prepared:
            return False
        message = self.table.batches.get(data)
        if message is None:
            message = self._read(data)
            if message is None:
                return False
        slots = self.client_batches.open(message.envelope, message.link_origin, len(message.batch.reads))
        caller = BatchCaller(self, connection, data, slots)
        self.callers.add(caller)
        connection.wait_for(caller)
        try:
            self.prepared.begin(caller.waiting, message.batch)
        except Exception as fault:  # noqa: BLE001 - logged, and the handler answers
            caller.on_end(fault)
        return True

    def _read(self, data: bytes) -> BatchMessage | None:
        """Return the batch that the message *data* holds, if all of it is plain reads and it is here whole."""
        message = self._read_form(data) or self._read_whole(data)
        if message is not None and not message.batch.is_kept and self.table.note_batch(data):
            self.prepared.operations.keep(data, len(data), message.batch, message)
        return message

    def _read_form(self, data: bytes) -> BatchMessage | None:
        """Return the batch in the form *data*, of which only operations that are not known are decoded."""
        form = split_form(data)
        if form is None:
            return None
        frame: BatchFrame | None = self.table.batches.get(form.frame)
        if frame is None:
            frame = self._read_frame(form)
            if frame is None:
                return None
        batch = self.client_batches.prepare_form(form.operations, frame)
        return None if batch is None else BatchMessage(batch, frame.envelope, frame.link_origin)

    def _read_frame(self, form: BatchForm) -> BatchFrame | None:
        """Return what the frame of *form* says, kept for the next message with that frame."""
        found = self._read_call(form.empty)
        if found is None or found[0].batch != "[]" or found[0].callback:
            return None
        call, origin = found
        frame = self.prepared.operations.frame(call.envelope, origin)
        if frame is not None:
            self.table.add_batch(form.frame, frame, 0, sum(map(len, form.frame)))
        return frame

    def _read_whole(self, data: bytes) -> BatchMessage | None:
        """Return the same for a message of any form."""
        found = self._read_call(data)
        batch = None if found is None else self.client_batches.prepare(*found)
        return None if found is None or batch is None else BatchMessage(batch, found[0].envelope, found[1])

    def _read_call(self, data: bytes) -> tuple[BatchCall, LinkOrigin] | None:
        """Return the batch that the message *data* holds, and where links in the replies lead."""
        found = read_post(data)
        if found is None:
            return None
        target, fields, body = found
        head = Head("POST", target, fields)
        if not may_hold_batch(head):
            return None
        form, hosts = read_short_form(body, fields), self.client_batches.hosts
        call = None if form is None else read_call(head, form, hosts)
        return None if call is None else (call, link_origin(head, "http", hosts, rewrites=self.rewrites_links))


class BatchCaller:
    """A connection whose caller waits for the reply to a batch."""

    __slots__ = ("_connection", "_data", "_messages", "_slots", "waiting")

    def __init__(self, messages: BatchMessages, connection: Connection, data: bytes, slots: ClientBatchSlots) -> None:
        """Answer the message *data* once the *slots* are filled."""
        self._messages = messages
        self._connection = connection
        self._data = data
        self._slots = slots
        self.waiting = WaitingBatch(messages.prepared, slots, self.on_end)

    def on_end(self, error: BaseException | None) -> None:
        """Answer: all slots are filled, or there is an *error*."""
        self._messages.callers.discard(self)
        if error is not None:
            self.waiting.end()
        try:
            reply = self._reply(error)
        except Exception as fault:  # noqa: BLE001 - logged, and the handler answers
            log_fault(fault)
            self._pass_to_handler(is_large=isinstance(fault, errors.Large))
            return
        self._send(reply)

    def _reply(self, error: BaseException | None) -> Reply:
        """Return the reply to the batch. Raises *error* if it is not one that a caller is told of."""
        if error is None:
            return reply_of(self._slots, refusal_of(self._slots, self.waiting.unordinary()))
        if isinstance(error, errors.SidecarError) and not isinstance(error, errors.Large):
            return reply_of(self._slots, self._messages.client_batches.failed(error))
        raise error

    def _send(self, reply: Reply) -> None:
        """Send *reply*; a fault in what comes behind it on the connection ends that connection alone."""
        keeps = not self._messages.is_leaving()
        try:
            head, body = framed(reply, http_date(int(time.time())), keeps=keeps)
            self._connection.answer(head, body, keeps=keeps)
        except Exception as fault:  # noqa: BLE001 - logged; the reply may have been sent, so no other may follow
            log_fault(fault)
            self._connection.force_close()

    def _pass_to_handler(self, *, is_large: bool) -> None:
        try:
            self._connection.pass_to_handler(self, self._data, is_large=is_large)
        except Exception as fault:  # noqa: BLE001 - as above
            log_fault(fault)
            self._connection.force_close()

    def leave(self) -> None:
        """Note that the caller has hung up."""
        self._messages.callers.discard(self)
        self.waiting.end()

    def break_off(self, error: errors.SidecarError) -> None:
        """Answer with *error*: the sidecar ends."""
        self.leave()
        self._send(errors.reply_of(error))
