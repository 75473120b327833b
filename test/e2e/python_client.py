"""A client of the service as a Python service writes it: stubs by grpcio-tools, errors, metadata, streams, health.

usage: python_client.py HOST:PORT PROTO_DIRECTORY

Reads one request a line from standard input and prints answers as lines of JSON, each with the id of its request.
"""

import json
import os
import queue
import sys
import tempfile
import threading
from importlib import resources

import grpc
from google.protobuf import json_format
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_tools import protoc

TIMEOUT_SECONDS = 20


def generate(proto_directory, out):
    """What `python -m grpc_tools.protoc` does."""
    files = [
        os.path.relpath(os.path.join(folder, name), proto_directory)
        for folder, _, names in os.walk(proto_directory)
        for name in names
        if name.endswith(".proto")
    ]
    # Timestamp, Duration and the like come with grpcio-tools.
    common = resources.files("grpc_tools") / "_proto"
    outputs = [f"--python_out={out}", f"--grpc_python_out={out}"]
    code = protoc.main(["protoc", f"-I{proto_directory}", f"-I{common}", *outputs, *files])
    if code != 0:
        sys.exit("protoc failed")
    sys.path.insert(0, out)


target, protos = sys.argv[1:]
with tempfile.TemporaryDirectory() as directory:
    generate(protos, directory)
    from google.rpc import error_details_pb2, status_pb2
    from lucid.node.v1 import node_service_pb2, node_service_pb2_grpc

channel = grpc.insecure_channel(target)
nodes = node_service_pb2_grpc.NodeServiceStub(channel)
methods = node_service_pb2.DESCRIPTOR.services_by_name["NodeService"].methods_by_name
printing = threading.Lock()
streams = {}


def answer(request_id, **words):
    with printing:
        print(json.dumps({"id": request_id, **words}))


def to_dict(message):
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def request_of(method, request):
    return json_format.ParseDict(request, getattr(node_service_pb2, methods[method].input_type.name)())


def refusal_of(error):
    trailers = dict(error.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailers.get("grpc-status-details-bin", b""))
    details = []
    for packed in status.details:
        for kind in (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.RetryInfo):
            if packed.Is(kind.DESCRIPTOR):
                message = kind()
                packed.Unpack(message)
                details.append({"@type": kind.DESCRIPTOR.full_name, **to_dict(message)})
    return {"code": error.code().name, "message": error.details(), "details": details}


def call(request_id, method, request, headers):
    try:
        response = getattr(nodes, method)(
            request_of(method, request), metadata=tuple(headers.items()), timeout=TIMEOUT_SECONDS
        )
        answer(request_id, response=to_dict(response))
    except grpc.RpcError as error:
        answer(request_id, refusal=refusal_of(error))


def heartbeat(request_id, headers):
    outgoing = streams[request_id]
    try:
        requests = iter(outgoing.get, None)
        for response in nodes.Heartbeat(requests, metadata=tuple(headers.items()), timeout=TIMEOUT_SECONDS):
            answer(request_id, message=to_dict(response))
        answer(request_id, end={"code": "OK"})
    except grpc.RpcError as error:
        answer(request_id, end=refusal_of(error))
    finally:
        outgoing.put(None)


def health(request_id, service):
    response = health_pb2_grpc.HealthStub(channel).Check(
        health_pb2.HealthCheckRequest(service=service), timeout=TIMEOUT_SECONDS
    )
    answer(request_id, status=health_pb2.HealthCheckResponse.ServingStatus.Name(response.status))


def services(request_id):
    names = ProtoReflectionDescriptorDatabase(channel).get_services()
    answer(request_id, services=sorted(names))


def serve(words):
    request_id, what = words["id"], words["do"]
    if what == "call":
        call(request_id, words["method"], words["request"], words["headers"])
    elif what == "open":
        streams[request_id] = queue.Queue()
        threading.Thread(target=heartbeat, args=(request_id, words["headers"]), daemon=True).start()
    elif what == "send":
        streams[request_id].put(request_of("Heartbeat", words["message"]))
    elif what == "end":
        streams[request_id].put(None)
    elif what == "health":
        health(request_id, words["service"])
    elif what == "services":
        services(request_id)


print("ready")
for line in sys.stdin:
    serve(json.loads(line))
