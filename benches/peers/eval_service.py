"""The eval bench's peer: a FastAPI handler that evaluates with simpleeval.

usage: eval_service.py PORT WORKERS; needs `pip install fastapi 'uvicorn[standard]' simpleeval`.
"""
import sys

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from simpleeval import simple_eval

app = FastAPI()


class Request(BaseModel):
    formula: str
    variables: dict[str, float]


@app.post("/v1/eval")
async def evaluate(request: Request):
    return {"type": "float", "value": simple_eval(request.formula, names=request.variables)}


if __name__ == "__main__":
    port, workers = int(sys.argv[1]), int(sys.argv[2])
    uvicorn.run("eval_service:app", host="127.0.0.1", port=port, workers=workers, log_level="warning")
