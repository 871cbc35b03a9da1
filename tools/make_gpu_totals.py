"""Make kvplan/domain/gpu_totals.json from a table of printed totals (`gpus_more.yaml`): what torch and CUDA call a card's total.

The cards that gpus.yaml lacks become gpus_more.json: they are found by name.

    python tools/make_gpu_totals.py gpus_more.yaml

Kept for each card: the Linux band in bytes, the total under Windows and WSL, SMs, L2, compute capability, and the names that
drivers print. A band of one print is widened downwards by 2 %, as cards with many prints spread (the table's own advice).
"""

import json
import sys
from pathlib import Path
from typing import Any

import yaml

DOMAIN = Path(__file__).resolve().parents[1] / "kvplan" / "domain"
OUT = DOMAIN / "gpu_totals.json"
#: Chips sold in several sizes, whose name in the table has one of them: `NAME-SIZEgb` is kvplan's word for a chip in one size.
CHIPS = {"strix-halo-128gb": "strix-halo"}


def main(path: str) -> None:
    """Read the table and write the file."""
    table = yaml.safe_load(Path(path).read_text())
    for entry in [*table["gpus"], *table["printed_names"].values()]:
        entry["id"] = CHIPS.get(entry["id"], entry["id"])
    names: dict[str, list[str]] = {}
    for printed, entry in table["printed_names"].items():
        names.setdefault(entry["id"], []).append(printed)
    cards = {card["id"]: kept(card, names.get(card["id"], [])) for card in [*table["nvidia"], *table["gpus"]]}
    slices = [
        {key: row[key] for key in ("card", "profile", "mib", "sms") if key in row}
        for row in table["tenants"]["mig_slices"]
        if "mib" in row
    ]
    OUT.write_text(json.dumps({"cards": cards, "mig": slices}, indent=0, separators=(",", ":")) + "\n")
    known = {card["id"] for card in yaml.safe_load((DOMAIN / "gpus.yaml").read_text())["gpus"]}
    more = [catalogued(card) for card in table["gpus"] if card["id"] not in known]
    (DOMAIN / "gpus_more.json").write_text("[\n" + ",\n".join(map(json.dumps, more)) + "\n]\n")
    print(f"{len(cards)} cards, {len(slices)} slices: {OUT}")


def kept(card: dict[str, Any], printed: list[str]) -> dict[str, Any]:
    """What kvplan keeps of one card."""
    low = card.get("cuda_total_bytes_low", card.get("reported_bytes_low"))
    high = card.get("cuda_total_bytes_high", card.get("reported_bytes_high"))
    prints = [one for one in card.get("observed", []) if one.get("platform") in {"linux", "unsaid"}]
    if low is not None and len(prints) <= 1:
        low = int(low * 0.98)
    found = {
        "names": list(dict.fromkeys([*([card["name"]] if "name" in card else []), *card.get("aliases", []), *printed])),
        "low": low,
        "high": high,
        "wddm": card.get("cuda_total_wddm_bytes"),
        "sms": card.get("sms"),
        "l2": card.get("l2_bytes"),
        "cc": card.get("compute_capability"),
        "smi": (card.get("nvidia_smi_mib") or [None])[0],
    }
    return {key: value for key, value in found.items() if value}


def catalogued(card: dict[str, Any]) -> dict[str, Any]:
    """A card as the catalogue has it: what a driver prints, else what the box says."""
    sizes = card["marketed_gb"] if isinstance(card["marketed_gb"], list) else [card["marketed_gb"]]
    reported, by = None, ""
    if card.get("reported_bytes_low"):
        reported, by = card["reported_bytes_low"], "the smallest total that its runtime printed"
    elif card.get("nvidia_smi_mib"):
        reported, by = min(card["nvidia_smi_mib"]) * 2**20, "nvidia-smi memory total"
    elif card.get("cuda_total_wddm_bytes"):
        reported, by = card["cuda_total_wddm_bytes"], "CUDA's total under Windows"
    found = {
        "id": card["id"], "vendor": card["vendor"], "arch": card["arch"], "memory_kind": card["memory_kind"],
        "marketed_gb": sizes,
        "sources": card["sources"] + [f"{one['by']}: {one['printed']} ({one['source']})" for one in card.get("observed", [])[:3]],
        "reported_bytes": reported, "reported_by": by, "cuda_total_bytes": card.get("cuda_total_bytes_low"),
        "bandwidth_gb_s": card.get("bandwidth_gb_s"), "compute_capability": card.get("compute_capability", ""),
        "note": card.get("note", ""), "unverified": card.get("unverified_fields", []),
    }  # fmt: skip
    return {key: value for key, value in found.items() if value}


if __name__ == "__main__":
    main(sys.argv[1])
