"""Each block reads what the block before it wrote."""


def stack(x, blocks, places, end, normed):
    for block in blocks:
        x = block.run(x)
    return end(x)
