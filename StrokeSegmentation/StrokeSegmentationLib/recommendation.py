"""What is said first of every network and its results: which studies it learned from, and which method the suite recommends.

Light to import: the panel says it before anything else is loaded.
"""

OWN_STUDIES = "The network was trained on studies its user gave: research use only, no statement about a patient."
SIMULATED = "The network was trained on simulated studies only: research use only, no statement about a patient."
MAPS_BETTER = (
    "On unseen simulated studies this network was not better than the threshold maps by the margin asked for: the suite recommends the "
    "threshold maps. The comparison is in the model card."
)
NOT_COMPARED = "This network was not compared with the threshold maps on unseen studies: the suite recommends the threshold maps."
NETWORK_BETTER = "On unseen simulated studies this network was better than the threshold maps; the comparison is in the model card."


def verdict(metrics: dict) -> str:
    """Network or maps; `metrics` is any document with the key "recommended" ("network", "maps" or "not compared")."""
    return {"network": NETWORK_BETTER, "maps": MAPS_BETTER}.get(metrics.get("recommended"), NOT_COMPARED)


def recommendation(metrics: dict) -> str:
    """What the panel and the page say first about network and maps."""
    return f"{origin(metrics)} {verdict(metrics)}"


def origin(document: dict) -> str:
    """What the network learned from; `document` is a model's metadata or a metrics document."""
    return SIMULATED if _simulated(document) else OWN_STUDIES


def short_origin(document: dict) -> str:
    """The same in a few words, for a subtitle."""
    return "Simulation-trained network, research only" if _simulated(document) else "Network trained on its user's studies, research only"


def _simulated(document: dict) -> bool:
    return bool({**document, **(document.get("model") or {})}.get("simulation_trained", True))
