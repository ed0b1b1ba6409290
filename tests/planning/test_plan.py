from pixelwise.config import Config, load_config
from pixelwise.planning.candidates import CANDIDATES
from pixelwise.planning.plan import Draft, Plan


def test_what_is_decided_stays_and_the_rest_gets_a_reason():
    draft = Draft({"network.base_channels": 4})
    draft.put("network.base_channels", 64, "large is good")
    draft.put("network.depth", 3, "small images")
    assert (draft.config.network.base_channels, draft.config.network.depth) == (4, 3)
    assert draft.reasons == {"network.base_channels": "as asked for", "network.depth": "small images"}


def test_a_reason_can_be_added_to():
    draft = Draft({"training.steps": 5})
    draft.explain("training.steps", "half an epoch")
    draft.explain("training.seed", "as always")
    assert draft.reasons == {"training.steps": "as asked for; half an epoch", "training.seed": "as always"}


def test_a_candidate_leaves_what_is_decided():
    draft = Draft({"network.stem_stride": 1})
    assert draft.with_network(CANDIDATES[1]).network.stem_stride == 1
    draft.put_network(CANDIDATES[1], "it fits")
    assert (draft.config.network.base_channels, draft.config.network.stem_stride) == (32, 1)
    assert draft.reasons["network.stem_stride"] == "as asked for"


def test_a_plan_without_a_forecast_is_the_config(tmp_path):
    made = Plan(config=Config(), reasons={"network.depth": "it fits"})
    path = tmp_path / "config.yaml"
    path.write_text(made.to_yaml())
    assert made.to_yaml().startswith("data:")
    assert load_config(path) == Config()
