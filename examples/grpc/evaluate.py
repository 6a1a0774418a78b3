"""Evaluates formulas over one gRPC stream, and follows a job to its end.

    pip install grpcio grpcio-tools
    python -m grpc_tools.protoc -I master/proto --python_out=. --grpc_python_out=. master/proto/quipu/v1/quipu.proto
    QUIPU_TOKEN_FILE=token python examples/grpc/evaluate.py 127.0.0.1:7402
"""

import os
import sys
import time

import grpc
from quipu.v1 import quipu_pb2 as pb
from quipu.v1 import quipu_pb2_grpc

COUNT = 10_000


def main():
    with open(os.environ["QUIPU_TOKEN_FILE"]) as file:
        metadata = [("authorization", "Bearer " + file.read().strip())]
    # To a master beyond loopback: grpc.secure_channel with what `quipu secret ca` prints.
    with grpc.insecure_channel(sys.argv[1]) as channel:
        quipu = quipu_pb2_grpc.QuipuStub(channel)
        evaluate(quipu, metadata)
        run_job(quipu, metadata)
        refuse(quipu, metadata)


def evaluate(quipu, metadata):
    def requests():
        for number in range(COUNT):
            yield pb.EvaluateRequest(id=number, formula="x * x + 1", variables={"x": pb.Value(int=number)})

    begun = time.monotonic()
    values = {}
    for answer in quipu.Evaluate(requests(), metadata=metadata):
        values[answer.id] = answer.value.int
    seconds = time.monotonic() - begun
    assert values == {number: number * number + 1 for number in range(COUNT)}
    print(f"{COUNT} formulas over one stream", file=sys.stdout)
    print(f"{COUNT / seconds:.0f} a second", file=sys.stderr)


def run_job(quipu, metadata):
    job = quipu.Submit(pb.SubmitRequest(formulas=pb.Formulas(formulas=["6 * 7", "1 / 0"])), metadata=metadata)
    for job in quipu.Watch(pb.WatchRequest(id=job.id), metadata=metadata):
        pass
    print("the job is", pb.JobState.Name(job.state))
    for chunk in quipu.Results(pb.ResultsRequest(id=job.id), metadata=metadata):
        sys.stdout.write(chunk.data.decode())


def refuse(quipu, metadata):
    try:
        quipu.GetJob(pb.GetJobRequest(id=1 << 60), metadata=metadata)
    except grpc.RpcError as error:
        code = dict(error.trailing_metadata())["quipu-code"]
        print("refused:", error.code().name, code)


main()
