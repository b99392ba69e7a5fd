"""Plain beam search of a whole batch in one call, where encoder and decoder are ones that the kernels know."""

from torch import Tensor

from ..nn.kernels.decode import Plan, Translations, search
from .encoder_engine import EncoderEngine
from .engine import Engine

__all__ = ["Searcher"]


class Searcher:
    """Is the decoder's ``search`` as long as both engines hold.

    Args:
        encoder: the engine of the encoder.
        decoder: that of the decoder.
    """

    def __init__(self, encoder: EncoderEngine, decoder: Engine):
        self.encoder, self.decoder = encoder, decoder
        decoder.decoder.search = self.search

    def take_back(self) -> None:
        """Let the decoder be as it was."""
        if self.decoder.decoder.__dict__.get("search") == self.search:
            del self.decoder.decoder.search

    def search(self, source: Tensor, plan: Plan) -> Translations | None:
        """See :meth:`.SkipDecoder.search`."""
        encoder, decoder = self.encoder, self.decoder
        positions = encoder.positions.first(source.size(1)), decoder.positions.first(plan.longest + 1)
        with encoder.space() as space:
            return search(
                *(encoder.kernel, decoder.kernel, decoder.source_maps, source.long(), positions),
                *(decoder.decoder.padding_idx, plan, space),
            )
