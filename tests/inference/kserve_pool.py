"""A pool of one: KServe's own server of the Open Inference Protocol with ONNX models, ``name=path`` each.

python kserve_pool.py HTTP_PORT GRPC_PORT NAME=PATH...
"""

from __future__ import annotations

import sys
from typing import Any

import onnxruntime
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer

_DATATYPES = {"tensor(float)": "FP32", "tensor(uint8)": "UINT8"}


class OnnxModel(Model):  # type: ignore[misc]
    """Runs one network, as onnxruntime does anywhere."""

    def __init__(self, name: str, path: str) -> None:
        super().__init__(name)
        self._session = onnxruntime.InferenceSession(path)
        self.ready = True

    async def get_input_types(self) -> list[dict[str, Any]]:
        return [_described(each) for each in self._session.get_inputs()]

    async def get_output_types(self) -> list[dict[str, Any]]:
        return [_described(each) for each in self._session.get_outputs()]

    def predict(self, payload: InferRequest, headers: Any = None, response_headers: Any = None) -> InferResponse:
        del headers, response_headers
        (asked,) = payload.inputs
        output = self._session.get_outputs()[0].name
        (found,) = self._session.run([output], {asked.name: asked.as_numpy()})
        answer = InferOutput(output, list(found.shape), "FP32")
        answer.set_data_from_numpy(found, binary_data=payload.use_binary_outputs)
        return InferResponse(payload.id, self.name, [answer], use_binary_outputs=payload.use_binary_outputs)


def _described(tensor: Any) -> dict[str, Any]:
    shape = [size if isinstance(size, int) else -1 for size in tensor.shape]
    return {"name": tensor.name, "datatype": _DATATYPES[tensor.type], "shape": shape}


if __name__ == "__main__":
    http, grpc, *models = sys.argv[1:]
    server = ModelServer(http_port=int(http), grpc_port=int(grpc), workers=1, enable_docs_url=False)
    server.start([OnnxModel(*each.split("=", 1)) for each in models])
