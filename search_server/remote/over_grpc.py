"""The Open Inference Protocol over gRPC.

Of its messages (open_inference_grpc.proto) only the fields that are used are described, by their numbers: protobuf
passes over all others. So there is no generated code, which would be bound to the releases that it was generated for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, Final

# What this process starts it executes, so there is nothing to prepare for a fork; and the log is ours, in JSON.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc
import grpc.aio
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from search_server.remote.inference import (
    FP32,
    LONGEST_ANSWER,
    Described,
    RemoteAway,
    RemoteModel,
    RemoteUnfit,
    Tensor,
    floats,
)

_SERVICE: Final = "/inference.GRPCInferenceService"
_UNFIT: Final = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.OUT_OF_RANGE,
}
_OPTIONS: Final = (
    ("grpc.enable_http_proxy", 0),  # a proxy of the environment's isn't for the cluster's own
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", LONGEST_ANSWER),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2000),
    # to all that the name stands for (a headless Service), and not to the first alone
    ("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}'),
)

_Field = FieldDescriptorProto
_MESSAGES: Final[dict[str, tuple[tuple[str, int, int, bool, str], ...]]] = {
    "ModelMetadataRequest": (
        ("name", 1, _Field.TYPE_STRING, False, ""),
        ("version", 2, _Field.TYPE_STRING, False, ""),
    ),
    "TensorMetadata": (
        ("name", 1, _Field.TYPE_STRING, False, ""),
        ("datatype", 2, _Field.TYPE_STRING, False, ""),
    ),
    "ModelMetadataResponse": (
        ("inputs", 4, _Field.TYPE_MESSAGE, True, "TensorMetadata"),
        ("outputs", 5, _Field.TYPE_MESSAGE, True, "TensorMetadata"),
    ),
    "InferTensorContents": (("fp32_contents", 6, _Field.TYPE_FLOAT, True, ""),),
    "InferInputTensor": (
        ("name", 1, _Field.TYPE_STRING, False, ""),
        ("datatype", 2, _Field.TYPE_STRING, False, ""),
        ("shape", 3, _Field.TYPE_INT64, True, ""),
    ),
    "InferRequestedOutputTensor": (("name", 1, _Field.TYPE_STRING, False, ""),),
    "ModelInferRequest": (
        ("model_name", 1, _Field.TYPE_STRING, False, ""),
        ("model_version", 2, _Field.TYPE_STRING, False, ""),
        ("inputs", 5, _Field.TYPE_MESSAGE, True, "InferInputTensor"),
        ("outputs", 6, _Field.TYPE_MESSAGE, True, "InferRequestedOutputTensor"),
        ("raw_input_contents", 7, _Field.TYPE_BYTES, True, ""),
    ),
    "InferOutputTensor": (
        ("name", 1, _Field.TYPE_STRING, False, ""),
        ("datatype", 2, _Field.TYPE_STRING, False, ""),
        ("contents", 5, _Field.TYPE_MESSAGE, False, "InferTensorContents"),
    ),
    "ModelInferResponse": (
        ("outputs", 5, _Field.TYPE_MESSAGE, True, "InferOutputTensor"),
        ("raw_output_contents", 6, _Field.TYPE_BYTES, True, ""),
    ),
}
"""Of each field its name, number, type, whether it is repeated, and its message."""


def _classes() -> dict[str, Any]:
    file = FileDescriptorProto(name="indexpush/open_inference.proto", package="inference", syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = DescriptorProto(name=name)
        for field, number, kind, repeated, its in fields:
            label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
            described = message.field.add(name=field, number=number, type=kind, label=label)
            if its:
                described.type_name = f".inference.{its}"
        file.message_type.append(message)
    pool = DescriptorPool()  # of our own: another package may have brought the whole protocol
    pool.AddSerializedFile(file.SerializeToString())
    return {name: GetMessageClass(pool.FindMessageTypeByName(f"inference.{name}")) for name in _MESSAGES}


_CLASSES: Final = _classes()


class OverGrpc:
    """Speaks with the servers behind a name; one connection to each."""

    def __init__(self, target: str, *, tls: bool, seconds: float) -> None:
        """target: host:port. seconds: for a whole answer."""
        address = f"dns:///{target}"
        if tls:
            self._channel = grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(), _OPTIONS)
        else:
            self._channel = grpc.aio.insecure_channel(address, _OPTIONS)
        self._seconds = seconds
        self._describing = self._method("ModelMetadata")
        self._inferring = self._method("ModelInfer")

    async def describe(self, model: RemoteModel) -> Described:
        """See `Inference`."""
        request = _CLASSES["ModelMetadataRequest"](name=model.name, version=model.version)
        said = await self._ask(self._describing, request, "ModelMetadataResponse")
        named = ([(each.name, each.datatype) for each in tensors] for tensors in (said.inputs, said.outputs))
        return Described(*map(tuple, named))

    async def infer(self, model: RemoteModel, tensor: Tensor, output: str) -> Sequence[float]:
        """See `Inference`."""
        request = _CLASSES["ModelInferRequest"](model_name=model.name, model_version=model.version)
        request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        request.raw_input_contents.append(tensor.data)
        if output:
            request.outputs.add(name=output)
        said = await self._ask(self._inferring, request, "ModelInferResponse")
        for place, each in enumerate(said.outputs):
            if output not in ("", each.name):
                continue
            if each.datatype != FP32:
                raise RemoteUnfit(f"answered {each.datatype[:20]}, not {FP32}")
            if place < len(said.raw_output_contents):
                return floats(said.raw_output_contents[place])
            return tuple(each.contents.fp32_contents)
        raise RemoteUnfit(f"answered no output {output!r}")

    async def close(self) -> None:
        """See `Inference`."""
        await self._channel.close()

    def _method(self, name: str) -> Callable[..., Any]:
        """Takes and gives bytes: of an answer that can't be read grpc makes None."""
        method: Callable[..., Any] = self._channel.unary_unary(f"{_SERVICE}/{name}")
        return method

    async def _ask(self, method: Callable[..., Any], request: Any, answer: str) -> Any:  # noqa: ANN401 - messages
        try:
            said = await method(request.SerializeToString(), timeout=self._seconds)
            return _CLASSES[answer].FromString(said)
        except grpc.aio.AioRpcError as error:
            words = f"{error.code().name}: {(error.details() or '')[:300]}"
            raise (RemoteUnfit if error.code() in _UNFIT else RemoteAway)(words) from None
        except DecodeError as error:
            raise RemoteUnfit(f"answered what is no message: {error}") from None
