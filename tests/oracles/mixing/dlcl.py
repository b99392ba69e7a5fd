"""Wang et al. 2019: Σ W_lk N_k(y_k) of plain sums, N_l(Σ W_lk y_k) of normed ones; y_0 is the embedding."""


def stack(x, blocks, places, end, normed, norm_embedding):
    outputs = [x]
    for number, place in enumerate(places):
        weights = place[0].numbers["weight"]
        assert len(weights) == number + 1 == len(outputs)
        norms = [other[0].norm for other in places[: number + 1]]
        if not norm_embedding:
            norms[0] = lambda v: v
        kept = [y if normed else norm(y) for y, norm in zip(outputs, norms, strict=True)]
        x = sum(w * y for w, y in zip(weights, kept, strict=True))
        if normed:
            x = norms[number](x)
        if number < len(blocks):
            outputs.append(blocks[number].run(x))
    return end(x)
