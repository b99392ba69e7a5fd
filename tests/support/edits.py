"""Public ways of changing a model after it was prepared for inference: EDITS, by name."""

import copy

import torch
from torch import nn
from torch.ao.quantization import quantize_dynamic
from torch.nn.utils import parametrize, prune

from tests.decoding.test_generator import sharpened
from tests.support.build import build


def made(*flags, kind="fp32", seed=1):
    model = sharpened(build("transformer_rskip", "--skip-order", "2", *flags, seed=seed))
    model.inference_type = kind
    return model


def drawn(tensor, seed=3):
    return torch.randn(tensor.shape, generator=torch.Generator().manual_seed(seed)).to(tensor.dtype)


def layer(model):
    return model.decoder.layers[0]


def every_layer(model):
    return [*model.encoder.layers, *model.decoder.layers]


EDITS = {}


def edit(function):
    EDITS[function.__name__] = function
    return function


@edit
@torch.no_grad()
def parameters_zeroed_in_place(model):
    for parameter in layer(model).parameters():
        parameter.zero_()


@edit
def parameters_zeroed_through_data(model):
    for parameter in layer(model).parameters():
        parameter.data.zero_()


@edit
@torch.no_grad()
def parameters_copied_into(model):
    layer(model).fc1.weight.copy_(drawn(layer(model).fc1.weight))


@edit
def data_replaced(model):
    layer(model).fc1.weight.data = drawn(layer(model).fc1.weight)


@edit
def rows_through_data_swapped(model):
    weight = layer(model).fc2.weight.data
    weight[[0, 3]] = weight[[3, 0]]


@edit
def one_number_through_data(model):
    layer(model).fc1.weight.data[3, 5] = 40.0


@edit
def a_number_through_numpy(model):
    layer(model).encoder_attn.v_proj.weight.detach().view(torch.int16).numpy()[2, 7] = 0x4300


@edit
def an_optimizers_step(model):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    for parameter in model.parameters():
        parameter.grad = drawn(parameter)
    optimizer.step()


@edit
@torch.no_grad()
def heads_masked_by_rows(model):
    for one in every_layer(model):
        for projection in (one.self_attn.q_proj, one.self_attn.k_proj, one.self_attn.v_proj):
            projection.weight[:8] = 0
            projection.bias[:8] = 0


@edit
def heads_masked_by_columns(model):
    for one in model.decoder.layers:
        one.encoder_attn.out_proj.weight.data[:, 8:] = 0


@edit
@torch.no_grad()
def an_embedding(model):
    model.decoder.embed_tokens.weight.mul_(-1)


@edit
def a_norms_gain_through_data(model):
    layer(model).final_layer_norm.skip.norms[0].weight.data[3] = 9.0


@edit
def pruned(model):
    torch.manual_seed(3)
    for one in every_layer(model):
        prune.l1_unstructured(one.fc1, "weight", amount=0.6)
        prune.random_structured(one.self_attn.v_proj, "weight", amount=0.5, dim=0)


@edit
def pruned_for_good(model):
    for one in every_layer(model):
        prune.l1_unstructured(one.fc2, "weight", amount=0.7)
        prune.remove(one.fc2, "weight")


@edit
def a_function_applied(model):
    @torch.no_grad()
    def halved(module):
        if isinstance(module, nn.Linear):
            module.weight.mul_(0.5)

    model.apply(halved)


@edit
def a_new_parameter(model):
    linear = layer(model).self_attn.k_proj
    linear.weight = nn.Parameter(drawn(linear.weight))


@edit
def a_replaced_map(model):
    torch.manual_seed(5)
    layer(model).fc1 = nn.Linear(16, 32, dtype=layer(model).fc1.weight.dtype)


@edit
def a_map_of_another_class(model):
    class Negative(nn.Linear):
        def forward(self, x):
            return -super().forward(x)

    torch.manual_seed(5)
    model.encoder.layers[0].fc1 = Negative(16, 32, dtype=layer(model).fc1.weight.dtype)
    layer(model).encoder_attn.q_proj = Negative(16, 16, dtype=layer(model).fc1.weight.dtype)


@edit
def a_replaced_layer(model):
    other = made(seed=9).to(layer(model).fc1.weight.dtype)
    model.decoder.layers[0], model.encoder.layers[1] = other.decoder.layers[0], other.encoder.layers[1]


@edit
def layers_changed_about(model):
    layers = model.decoder.layers
    layers[0], layers[1] = layers[1], layers[0]


@edit
def a_layer_taken_out(model):
    del model.decoder.layers[0]


@edit
def a_layer_put_in(model):
    other = made(seed=9).to(layer(model).fc1.weight.dtype)
    model.decoder.layers.append(other.decoder.layers[0])
    model.encoder.layers.insert(0, other.encoder.layers[1])


@edit
def a_copied_layer_put_in(model):
    model.decoder.layers.append(copy.deepcopy(model.decoder.layers[0]))
    model.encoder.layers.insert(0, copy.deepcopy(model.encoder.layers[1]))


@edit
def a_norm_taken_out_of_the_recursion(model):
    for one in model.decoder.layers:
        one.final_layer_norm.skip.norms = nn.ModuleList()


@edit
def another_norm(model):
    layer(model).self_attn_layer_norm.skip.norms[0] = Halves()


class Halves(nn.Module):
    def forward(self, v, padding_mask=None):
        return v / 2


@edit
def quantised(model):
    return quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)


@edit
def a_side_loaded(model):
    other = made(seed=7).to(layer(model).fc1.weight.dtype)
    model.decoder.load_state_dict(other.decoder.state_dict())


@edit
def all_loaded(model):
    model.load_state_dict(made(seed=7).state_dict())


@edit
def loaded_by_assignment(model):
    other = made(seed=7).to(layer(model).fc1.weight.dtype)
    model.encoder.load_state_dict(other.encoder.state_dict(), assign=True)


@edit
def averaged_in_place(model):
    for parameter, other in zip(model.parameters(), made(seed=7).parameters(), strict=True):
        parameter.data.add_(other.data).div_(2)


@edit
def averaged_by_torch(model):
    other = made(seed=7).to(layer(model).fc1.weight.dtype)
    with torch.no_grad():
        torch._foreach_lerp_(list(model.parameters()), list(other.parameters()), 0.5)


@edit
def moved_there_and_back(model):
    model.to("cpu")
    model.decoder.double().to(model.encoder.layers[0].fc1.weight.dtype)


@edit
def parametrised(model):
    class Twice(nn.Module):
        def forward(self, weight):
            return 2 * weight

    parametrize.register_parametrization(layer(model).fc1, "weight", Twice())
    parametrize.register_parametrization(layer(model).encoder_attn.k_proj, "weight", Twice())


@edit
def with_weight_norm(model):
    for linear in (layer(model).fc2, model.encoder.layers[0].fc1):
        nn.utils.parametrizations.weight_norm(linear)
        linear.parametrizations.weight.original0.data.mul_(3)


@edit
def with_the_old_weight_norm(model):
    linear = nn.utils.weight_norm(layer(model).fc2)
    linear.weight_g.data.mul_(3)


@edit
def a_forward_hook(model):
    layer(model).register_forward_hook(lambda module, args, out: (2 * out[0], *out[1:]))


@edit
def a_forward_hook_on_a_map(model):
    model.encoder.layers[0].fc1.register_forward_hook(lambda module, args, out: -out)
    layer(model).fc2.register_forward_hook(lambda module, args, out: -out)


@edit
def a_forward_hook_on_a_norm(model):
    layer(model).final_layer_norm.skip.norms[0].register_forward_hook(lambda module, args, out: -out)


@edit
def a_forward_pre_hook(model):
    layer(model).fc1.register_forward_pre_hook(lambda module, args: (args[0] + 1,))


@edit
def a_forward_put_in(model):
    for linear in (layer(model).fc1, model.encoder.layers[1].fc2):
        linear.forward = lambda x, stock=nn.Linear.forward, linear=linear: -stock(linear, x)


@edit
def a_norms_forward_put_in(model):
    norm = layer(model).final_layer_norm.skip.norms[0]
    norm.forward = lambda v, padding_mask=None: v / 2


@edit
def an_activation(model):
    layer(model).activation_fn = torch.tanh


@edit
def an_eps(model):
    layer(model).final_layer_norm.eps = 3.0


@edit
def a_scale(model):
    model.decoder.embed_scale = 1.5


@edit
def positions(model):
    model.decoder.embed_positions.weights.data.mul_(-1)


@edit
def the_decoders_forward(model):
    stock = model.decoder.forward

    def forward(*args, **kwargs):
        logits, extra = stock(*args, **kwargs)
        return logits.flip(-1), extra

    model.decoder.forward = forward


@edit
def the_encoders_forward(model):
    stock = model.encoder.forward

    def forward(*args, **kwargs):
        out = stock(*args, **kwargs)
        return {**out, "encoder_out": [-one for one in out["encoder_out"]]}

    model.encoder.forward = forward


@edit
def the_encoders_activation(model):
    model.encoder.layers[0].activation_fn = torch.tanh


@edit
def a_hook_on_every_module(model):
    nn.modules.module._global_forward_hooks.clear()  # one is enough for two models
    nn.modules.module.register_module_forward_hook(
        lambda module, args, out: -out if getattr(module, "out_features", 0) == 32 else None
    )
