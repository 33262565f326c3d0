"""A SavedModel through TensorFlow's C API: the C++ loader and session that TF Serving uses.

Nothing of Python's TensorFlow takes part but the protobuf that lists the signatures.
"""

import ctypes
from importlib.util import find_spec
from pathlib import Path

import numpy as np

_STRING = 7  # TF_STRING
_TYPES = {1: np.float32, 3: np.int32, 9: np.int64, 10: np.bool_}
_NUMBERS = {np.dtype(kind): number for number, kind in _TYPES.items()}
_STRING_BYTES = 24  # sizeof(TF_TString)


class CApiError(RuntimeError):
    """What TensorFlow said; `code` is its number (3: invalid argument)."""

    def __init__(self, code, text):
        self.code = code
        super().__init__(text)


class _Output(ctypes.Structure):
    _fields_ = (("operation", ctypes.c_void_p), ("index", ctypes.c_int))


class _Buffer(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("length", ctypes.c_size_t),
        ("deallocator", ctypes.c_void_p),
    )


def _library():
    folder = Path(find_spec("tensorflow").submodule_search_locations[0])
    library = ctypes.CDLL(str(folder / "libtensorflow_cc.so.2"))
    for name, result in {
        "TF_NewStatus": ctypes.c_void_p,
        "TF_Message": ctypes.c_char_p,
        "TF_NewGraph": ctypes.c_void_p,
        "TF_NewSessionOptions": ctypes.c_void_p,
        "TF_NewBuffer": ctypes.POINTER(_Buffer),
        "TF_LoadSessionFromSavedModel": ctypes.c_void_p,
        "TF_GraphOperationByName": ctypes.c_void_p,
        "TF_AllocateTensor": ctypes.c_void_p,
        "TF_TensorData": ctypes.c_void_p,
        "TF_Dim": ctypes.c_int64,
        "TF_StringGetDataPointer": ctypes.c_void_p,
        "TF_StringGetSize": ctypes.c_size_t,
    }.items():
        getattr(library, name).restype = result
    return library


class CSession:
    """A loaded SavedModel.

    Example: `CSession("saved_models/mine/1").run({"image": images}, "image")["class_id"]`
    """

    def __init__(self, folder):
        from tensorflow.core.protobuf import meta_graph_pb2

        self._c = _library()
        self._status = ctypes.c_void_p(self._c.TF_NewStatus())
        self._graph = ctypes.c_void_p(self._c.TF_NewGraph())
        options = ctypes.c_void_p(self._c.TF_NewSessionOptions())
        meta_graph = self._c.TF_NewBuffer()
        self._session = ctypes.c_void_p(
            self._c.TF_LoadSessionFromSavedModel(
                options,
                None,
                str(folder).encode(),
                (ctypes.c_char_p * 1)(b"serve"),
                1,
                self._graph,
                meta_graph,
                self._status,
            )
        )
        self._c.TF_DeleteSessionOptions(options)
        self._check()
        content = ctypes.string_at(meta_graph.contents.data, meta_graph.contents.length)
        self._c.TF_DeleteBuffer(meta_graph)
        self.signatures = meta_graph_pb2.MetaGraphDef.FromString(content).signature_def

    def run(self, feeds, signature="serving_default"):
        """Answers as arrays by the names of the outputs; strings as objects of bytes."""
        signature = self.signatures[signature]
        outputs = sorted(signature.outputs)
        sources = [signature.inputs[name] for name in feeds]
        fed = [self._tensor(np.asarray(value)) for value in feeds.values()]
        got = (ctypes.c_void_p * len(outputs))()
        try:
            self._c.TF_SessionRun(
                self._session,
                None,
                self._places(sources),
                (ctypes.c_void_p * len(fed))(*[tensor.value for tensor in fed]),
                len(fed),
                self._places([signature.outputs[name] for name in outputs]),
                got,
                len(outputs),
                None,
                0,
                None,
                self._status,
            )
            self._check()
            return {name: self._array(value) for name, value in zip(outputs, got, strict=True)}
        finally:
            for tensor in [*fed, *(ctypes.c_void_p(value) for value in got if value)]:
                self._c.TF_DeleteTensor(tensor)

    def close(self):
        self._c.TF_DeleteSession(self._session, self._status)
        self._c.TF_DeleteGraph(self._graph)
        self._c.TF_DeleteStatus(self._status)

    def _check(self):
        code = self._c.TF_GetCode(self._status)
        if code:
            raise CApiError(code, self._c.TF_Message(self._status).decode(errors="replace"))

    def _places(self, infos):
        places = (_Output * len(infos))()
        for place, info in zip(places, infos, strict=True):
            name, _, index = info.name.partition(":")
            place.operation = self._c.TF_GraphOperationByName(self._graph, name.encode())
            place.index = int(index)
        return places

    def _tensor(self, array):
        is_text = array.dtype.kind in "OS"
        number = _STRING if is_text else _NUMBERS[array.dtype]
        size = array.size * _STRING_BYTES if is_text else array.nbytes
        dims = (ctypes.c_int64 * array.ndim)(*array.shape)
        tensor = ctypes.c_void_p(
            self._c.TF_AllocateTensor(number, dims, array.ndim, ctypes.c_size_t(size))
        )
        start = self._c.TF_TensorData(tensor)
        if is_text:
            for i, text in enumerate(array.ravel().tolist()):
                place = ctypes.c_void_p(start + i * _STRING_BYTES)
                self._c.TF_StringInit(place)
                self._c.TF_StringCopy(place, text, ctypes.c_size_t(len(text)))
        elif size:
            ctypes.memmove(start, np.ascontiguousarray(array).ctypes.data, size)
        return tensor

    def _array(self, handle):
        tensor = ctypes.c_void_p(handle)
        count = self._c.TF_NumDims(tensor)
        shape = [self._c.TF_Dim(tensor, i) for i in range(count)]
        size, start = int(np.prod(shape)), self._c.TF_TensorData(tensor)
        number = self._c.TF_TensorType(tensor)
        if number != _STRING:
            kind = np.dtype(_TYPES[number])
            content = ctypes.string_at(start, size * kind.itemsize) if size else b""
            return np.frombuffer(content, kind).reshape(shape)
        array = np.empty(size, object)
        for i in range(size):
            place = ctypes.c_void_p(start + i * _STRING_BYTES)
            data = self._c.TF_StringGetDataPointer(place)
            array[i] = ctypes.string_at(data, self._c.TF_StringGetSize(place))
        return array.reshape(shape)
