"""LangChain's standard suite, unit and integration, on ChatCrossRoute over scripted chat models."""

# LangChain's own signatures say Any.

from typing import Any

import pytest
from fakes_langchain import LARGE, MINI
from fakes_langchain_providers import ScriptedProvider
from langchain_core.language_models import BaseChatModel
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from langchain_crossroute import ChatCrossRoute

# The protocol of version v3 is in beta, and says so in every call.
pytestmark = pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")


PARAMETERS = {
    "models": {model: ScriptedProvider(model_name=model) for model in (MINI, LARGE)},
    "willingness_to_pay": 0,
}


class TestUnit(ChatModelUnitTests):
    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatCrossRoute

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return PARAMETERS


# Skipped, with the reasons that docs/langchain/chat_model.md gives: images, audio and PDF (the
# suite fetches its files from the internet; test_requests.py has tests with its own), VCR
# (there is no HTTP to record), the environment and serialisation (see there).
class TestIntegration(ChatModelIntegrationTests):
    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatCrossRoute

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return PARAMETERS

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def model_override_value(self) -> str:
        return LARGE

    @property
    def supports_anthropic_inputs(self) -> bool:
        return True
