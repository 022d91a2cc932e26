"""Public functions on tensors, called as a user calls them, against PyTorch: results, dtypes, gradients, errors.

The expressions run twice, with ``T`` for this library and for PyTorch.
"""

import inspect
import re
from collections import deque
from functools import partial

import numpy as np
import pytest
from helpers import ACCELERATED, close, needs_torch, torch

import gpugrad as gg

pytestmark = [needs_torch, pytest.mark.filterwarnings("ignore")]

draw = np.random.default_rng(0)
A = draw.standard_normal((3, 3)) + 3 * np.eye(3)
B = draw.standard_normal((2, 3, 3)) + 3 * np.eye(3)
INPUTS = {
    "s": draw.standard_normal(()),
    "v": draw.standard_normal(5),
    "a": draw.standard_normal((2, 3)),
    "w": draw.standard_normal((3, 4)),
    "x": draw.standard_normal((2, 3, 4)),
    "e": np.zeros((0, 3)),
    "arr2": draw.standard_normal((2, 5)),
    "m": draw.standard_normal((2, 3, 4)) > 0,
    "m2": draw.standard_normal((2, 3)) > 0,
    "li": draw.integers(0, 3, (2, 5, 4)),
}
MATRICES = {
    "s": draw.standard_normal(()),
    "v": draw.standard_normal(3),
    "u": draw.standard_normal(4),
    "x": draw.standard_normal((2, 3)),
    "y": draw.standard_normal((3, 4)),
    "z": draw.standard_normal((2, 4)),
    "w": draw.standard_normal((5, 3)),
    "b3": draw.standard_normal((2, 3, 4)),
    "c3": draw.standard_normal((2, 4, 5)),
    "d4": draw.standard_normal((5, 1, 3, 4)),
    "m5": draw.standard_normal((2, 5, 3)),
    "arr234": draw.standard_normal((2, 3, 4)),
    "A": A,
    "P": A @ A.T + np.diag([1.0, 2.0, 3.0]),
    "B": B,
    "Bs": B @ B.swapaxes(1, 2) + np.diag([1.0, 3.0, 6.0]),
}

SHAPES = """
    x.reshape(6, 4); x.reshape((6, -1)); T.reshape(x, (-1,)); T.reshape(x, shape=(4, 6)); x.reshape(5, -1)
    x.reshape(-1, -1); x.reshape(-2, 3); x.view(5, 5); x.view(24); x.view(size=(24,)); x.transpose(0, 1).view(6, 4)
    x.transpose(0, 1).reshape(6, 4); e.reshape(-1, 0); e.view(3, 0); x.reshape(2.0, 12); x.view_as(x.reshape(6, 4) * 1)
    x.reshape_as(x.reshape(6, 4)); x.flatten(); x.flatten(1); x.flatten(0, 1); T.flatten(x, start_dim=1, end_dim=2)
    x.flatten(2, 1); x.flatten(0, 5); s.flatten(); s.reshape(1, 1); x.unflatten(1, (3, 1)); x.unflatten(-1, (2, -1))
    x.unflatten(1, (2, 2)); x.ravel(); x.permute(2, 0, 1); x.permute((2, 0, 1)); T.permute(x, (0, -1, 1))
    T.permute(x, dims=(0, 2, 1)); x.permute(0, 1); x.permute(0, 0, 1); x.permute(0, 1, 3); x.transpose(0, -1)
    T.transpose(x, 1, 2); x.transpose(dim0=0, dim1=2); x.swapaxes(0, 1); T.swapdims(x, 0, 2); x.transpose(0, 5); a.t()
    v.t(); s.t(); x.t(); x.T; a.T; x.mT; x.mH; a.H; v.mT; x.H; v.H; x.real; T.real(x); x.movedim(0, 2)
    T.movedim(x, (0, 1), (2, 0)); T.moveaxis(x, -1, 0); x.movedim((0, 1), (1,)); x.movedim((0, 0), (1, 2))
    x[:1].squeeze(); x[:1].squeeze(0); x[:1, :1].squeeze((0, 1)); x[:1].squeeze(axis=0); x[:1].squeeze(1); x.squeeze(5)
    s.squeeze(); s.squeeze(0); x.unsqueeze(0); x.unsqueeze(-1); T.unsqueeze(x, dim=2); x.unsqueeze(5); s.unsqueeze(0)
    s.unsqueeze(-1); v.expand(3, 5); a.unsqueeze(1).expand(-1, 4, -1); a.expand(2, 3); v.expand(-1, 5); v.expand(3, 4)
    a.expand(3); s.expand(2, 2); v.expand_as(arr2); T.broadcast_to(v, (2, 5)); T.broadcast_to(v, (2, -1))
    T.broadcast_tensors(v, arr2, s); T.broadcast_tensors(v, x); a.t().contiguous(); v.repeat(2); v.repeat(2, 3)
    a.repeat(1, 2); a.repeat(2, 1, 2); a.repeat(1, 1); a.repeat(0, 2); x.repeat(2); x.repeat(2, -1, 1); v.tile(2)
    T.tile(x, (2,)); T.tile(v, dims=(2, 2)); x.tile((2, 1, 2, 1)); v.repeat_interleave(2); x.repeat_interleave(3, 1)
    x.repeat_interleave(3); T.repeat_interleave(x, 2, dim=0); T.repeat_interleave(x, T.tensor([1, 2]), dim=0)
    T.repeat_interleave(x, T.tensor([2]), dim=0); T.repeat_interleave(v, T.tensor([1, 2, 0, 3, 1]))
    T.repeat_interleave(T.tensor([1, 2, 0, 3])); x.repeat_interleave(T.tensor([1, 2]))
    x.repeat_interleave(T.tensor([1, -2]), 0); x.repeat_interleave(-1); s.repeat_interleave(3); T.cat([x, x * 2], 1)
    T.cat((a, a), dim=-1); T.cat([a, a], axis=1); T.concat([a, a]); T.concatenate([a, a], 1); T.cat([a, a[:1], e])
    T.cat([T.tensor([]), a * 1.0]); T.cat([]); T.cat([x, a]); T.cat([x, T.zeros(2, 4, 4)], 0); T.cat([s, s])
    T.cat([e, x]); T.cat(x); T.cat([x, x], 5); T.cat([a.long(), a]); T.cat([a.float(), a]); T.cat([a]); T.stack([])
    T.stack([x, x * 3]); T.stack([x, x], 1); T.stack([x, x], -1); T.stack((x, x), axis=1); T.stack([s, s])
    T.stack([x, x[0]]); T.stack([x, x], 4); T.hstack([a, a]); T.hstack((v, v)); T.hstack([s, s]); T.vstack([v, v])
    T.vstack([a, a]); T.dstack([v, v]); T.dstack([a, a]); T.row_stack([v, v]);
    T.column_stack([v, v]); T.column_stack((v, arr2.T)); T.column_stack([s, s]); T.column_stack([a, v])
    T.block_diag(a, s, v); T.block_diag(a, x); T.block_diag(a, a.long()); x.split(split_size=2, dim=2)
    T.split_with_sizes(x, split_sizes=[1, 2], dim=1); x.split_with_sizes([1, 1], 1)
    T.atleast_1d(s); T.atleast_2d(s, v)
    T.atleast_3d(v); T.atleast_3d(a, s); T.atleast_2d([v, s]); x.split(2, 1); T.split(x, [1, 2], dim=1)
    T.split(x, split_size_or_sections=2, dim=2); x.split(0, 1); x.split(-1, 1); x.split([1, 1], 1)
    x.split([1, -1, 3], 1); x.split(7, 1); s.split(1); x.chunk(2, 2); T.chunk(x, 3, dim=2); T.chunk(x, 3, axis=2)
    v.chunk(4); x.chunk(0); e.chunk(4); e.split(4); e.split(0); T.tensor_split(v, 3); v.tensor_split((1, 3))
    v.tensor_split(7); x.tensor_split(0); x.tensor_split((1, -1), 2); x.tensor_split((3, 1), 2); x.unbind()
    T.unbind(x, dim=2); T.unbind(x, 1)[1]; s.unbind(); e.unbind(); x.narrow(1, 1, 2); x.narrow(1, -2, 1)
    x.narrow(1, 2, 2); x.narrow(1, 0, -1); x.narrow(2, 4, 0); x.narrow(2, 5, 0); x.select(1, 2); x.select(-1, -1)
    x.select(1, 3); s.select(0, 0); x.flip(0); x.flip(0, 2); T.flip(x, [1]); T.flip(x, dims=(0, 1)); x.flip(0, 0)
    x.flip(()); T.fliplr(a); T.flipud(v); T.fliplr(v); T.flipud(s); x.roll(1); x.roll(1, 0)
    T.roll(x, shifts=(1, -2), dims=(0, 2)); x.roll((1, 2), 0); x.roll((1, 2), (0, 0)); T.rot90(a); T.rot90(x, 2, [0, 2])
    T.rot90(x, 3, [1, 2]); T.rot90(x, -1, [1, 2]); T.rot90(x, 4, [1, 2]); T.rot90(x, 1, [0, 0]); F.pad(x, (1, 2))
    F.pad(x, (1, 2), 'constant', 0.5); F.pad(x, (1, 2, 0, 1, 2, 0)); F.pad(x, (-1, 2)); F.pad(x, (-1, -1, 1, 0))
    F.pad(x, (1,)); F.pad(x, (1,) * 8); F.pad(x, (1, 2), mode='reflect'); F.pad(x, (1, 2, 2, 1), mode='reflect')
    F.pad(x, (1, 2), mode='replicate'); F.pad(x, (7, 2, 1, 1), mode='replicate'); F.pad(x, (1, 2), mode='circular')
    T.tril(a, 1.5); T.triu(a, np.uint8(1)); x.rot90(1.5); x.chunk(np.uint8(2)); x.chunk(1.5); [0] * T.tensor(2)
    F.interpolate(x[None], (2, 3), mode='bilinear', antialias=True); F.interpolate(x, 2, antialias=True)
    F.interpolate(x[None], (7, 2), mode='bicubic', antialias=True); F.interpolate(x[None], 3, mode='bicubic')
    F.interpolate(x[None], scale_factor=(0.5, 0.4), mode='bicubic', antialias=True, align_corners=True)
    F.interpolate(x[None], scale_factor=0.4, mode='bilinear', antialias=True, recompute_scale_factor=True)
    F.interpolate(x[None], scale_factor=0.7, mode='bilinear', antialias=True); F.interpolate(x, 9, mode='linear')
    F.interpolate(x[None], (7, 9), mode='bicubic', align_corners=True); F.interpolate(x, 3, mode='nearest-exact')
    F.pad(x, (4, 3), mode='circular'); F.pad(x, (4, 4), mode='reflect'); F.pad(x, (5, 4), mode='circular')
    F.pad(x, (-3, -2)); F.pad(x, (1, 1), mode='foo'); F.pad(x, (1, 1), 'reflect', value=3.0)
    F.pad(a, (-1, 1), 'reflect'); F.pad(x, (-1, 2), 'circular'); F.pad(x, (-1, 2), 'replicate'); T.tril(a); x.triu(1)
    T.triu(x, diagonal=-1); T.tril(v); T.diag(v); T.diag(v, 1); T.diag(a); a.diag(1); T.diag(x); T.diagonal(x, 1, 1, 2)
    x.diagonal(); x.diagonal(0, 1, 1); x.diagonal(7); x.diagonal(-7); x.diagonal(offset=-1, dim1=2, dim2=0)
    T.diag_embed(x); T.diag_embed(x, 1); T.diag_embed(x, -1, 0, 2); T.diag_embed(v, 1, 0, 0); T.diagflat(a)
    T.diagflat(a, 1); T.meshgrid(v, a[0]); T.meshgrid(v, a[0], indexing='xy'); T.meshgrid([v, s, a[0]], indexing='ij')
    T.meshgrid(a); T.meshgrid(indexing='ij'); T.meshgrid(v, v, indexing='aa'); T.cartesian_prod(v, a[0])
    T.cartesian_prod(v); x.unfold(1, 2, 1); x.unfold(2, 2, 2); x.unfold(-1, 3, 1); x.unfold(1, 5, 1); x.unfold(1, 2, 0)
    T.as_strided(x, (2, 2), (1, 2)); x.as_strided((3, 4), (1, 1), 2); x.as_strided((9, 9), (1, 1))
    x.as_strided((2,), (-1,)); x.as_strided((9, 9), (5, 1)); x.clone(); x.to(T.float32); x.float(); x.squeeze_()
    (x * 1).squeeze_(); (x * 1).unsqueeze_(1); (a * 1).t_(); (x * 1).transpose_(0, 1); (x * 1).swapaxes_(0, 1)
    (x * 1).tril_(); (x * 1).triu_(1); (x * 1).resize_(2, 2); x.detach().clone().resize_(2, 2); x.view(T.int64)
    x.detach().view(T.int64); x.detach().view(T.float32); T.zeros(3).view(T.float64)
    T.adjoint(x); x.adjoint(); T.adjoint(v); T.adjoint(s); T.column_stack((s, s)); T.column_stack([a, a[:, 0]])
    T.column_stack([]); T.column_stack([v, v.float()]); T.column_stack(v); T.block_diag(); T.block_diag(s, v, a)
    T.block_diag(a, li[0, :2]); T.block_diag(x); T.block_diag(e, v); T.block_diag([v]); T.block_diag(a); T.hsplit(a, 3)
    T.hsplit(v, 5); T.hsplit(v, 2); T.hsplit(s, 1); x.hsplit([1]); T.hsplit(a, 0); T.vsplit(a, 2); T.vsplit(v, 5)
    T.vsplit(a, (1, 2)); T.vsplit(a, 3); T.dsplit(x, 2); T.dsplit(x, [1, 3]); T.dsplit(a, 1); x.vsplit(2); x.dsplit(4)
    x.sum_to_size(3, 1); x.sum_to_size((4,)); x.sum_to_size(1, 3, 4); x.sum_to_size(()); x.sum_to_size(2)
    x.sum_to_size(5, 2, 3, 4); li.sum_to_size(5, 1); li.int().sum_to_size(4); m.sum_to_size(3, 4)
    li.int().sum_to_size(2, 5, 4)
    T.select_scatter(x, w, 0, 1); x.select_scatter(a, 2, -1)
    T.select_scatter(x, a, 0, 1); T.select_scatter(x, w, 0, 2); T.select_scatter(s, s, 0, 0)
    T.select_scatter(x, w.float(), 0, 1); T.select_scatter(li, x[:, 0].detach(), 1, 0)
    T.slice_scatter(x, x[:, :1] * 2, 1, 2); T.slice_scatter(x, a[:, :, None], 2, 0, None, 4); T.slice_scatter(x, w)
    T.slice_scatter(x, x * 2); x.slice_scatter(x[:1] * 3, start=-1); T.slice_scatter(x, w[None], 0, 0, 1, -1)
    T.slice_scatter(x, x[:, :2] * 2, dim=1, end=5, step=2); T.diagonal_scatter(a, v[:2])
    T.diagonal_scatter(a, v[:1], -1); T.diagonal_scatter(a, v[:3]); x.diagonal_scatter(x[:, :3, 0], 0, 1, 2)
    x.diagonal_scatter(a, 1, 1, 2); T.diagonal_scatter(a, v[:2], 0, 1, 1); T.combinations(v); T.combinations(v, 3)
    T.combinations(v, 0); T.combinations(v, 1); T.combinations(v, 6); T.combinations(v, r=2, with_replacement=True)
    T.combinations(a); T.combinations(v, -1); T.combinations(s); T.combinations(v[:0]); T.combinations(li[0, 0])
    T.vander(v.detach()); T.vander(v.detach(), 3); T.vander(v.detach(), N=2, increasing=True); T.vander(li[0, 0])
    T.vander(m[0, 0]); T.vander(v.detach(), 0); T.vander(v.detach(), 1); T.vander(v.detach(), -1); T.vander(a)
    T.vander(v.detach()[:0]); T.vander(v.detach().float()); T.vander(li[0, 0].int(), 3); T.unravel_index(li, (2, 4))
    T.unravel_index(T.tensor(9), (2, 4)); T.unravel_index(T.tensor(-1), (2, 4)); T.unravel_index(x, (2, 4))
    T.unravel_index(T.tensor(3), 5); T.unravel_index(T.tensor([3]), [2, 2]); T.unravel_index(T.tensor(0), (-1, 2))
    T.unravel_index(T.tensor(0), (0, 2)); T.unravel_index(T.tensor(0), ())
    T.unravel_index(T.tensor([5], dtype=T.int32), (2, 3)); (a * 1).fill_diagonal_(7); (v * 1).fill_diagonal_(7)
    (x * 1).fill_diagonal_(7); T.zeros(7, 2).fill_diagonal_(1, True); T.zeros(7, 2).fill_diagonal_(1)
    T.zeros(3, 2).fill_diagonal_(2, wrap=True); T.zeros(2, 2, 2).fill_diagonal_(2.5)
    T.zeros(2, 2, dtype=T.int64).fill_diagonal_(2.5); (a * 1).fill_diagonal_(s.detach()); x.t().fill_diagonal_(1)
    (a * 1).t().fill_diagonal_(3.0); T.zeros(2, 0).fill_diagonal_(1); T.zeros(3, 0).fill_diagonal_(1, True)
    a.fill_diagonal_(1); T.resize_as_(a.detach().clone(), w[:1]).shape; T.renorm(x, 2, 0, 1.0); T.renorm(x, 1, -1, 2.0)
    T.renorm(a, 0.5, 1, 1.0); T.renorm(v, 2, 0, 1); T.renorm(x, 0, 0, 1); T.renorm(x, 2, 0, -1); T.renorm(li, 2, 0, 1)
    (x * 1).renorm_(2, 1, 0.5); T.renorm(x, np.inf, 0, 1); T.renorm(x, 2, 3, 1); T.renorm(x, 2, 0, 100.0)
    T.renorm(e, 2, 0, 1.0); T.renorm(x * 0, 2, 0, 1.0); T.index_put_(x * 1, (T.tensor([0]),), s)
"""

INDEXING = """
    T.topk(v, 1.5); T.where(m, 0); T.where(m, x, 0)
    x[0]; x[5]; x[-1]; x[0, 0, 0]; x[0, 0, 0, 0]; x[1:, ::2]; x[..., 1]; x[None]; x[:, None, ..., 0]; x[0, ..., None]
    x[T.tensor([True, False, True])]; x[T.tensor([True, False])]; x[T.tensor([1, 0, 1])]; x[T.tensor([5])]
    x[T.tensor([-3])]; x[T.tensor([-1, 0])]; x[[0, 1], [0, 1, 2]]; x[[0, 1], [0, 1]]; x[1.5]; x[T.tensor([1.5])]
    x[::-1]; x[True]; x[False]; x[T.tensor(True)]; x[T.tensor(1, dtype=T.uint8)]; x[T.tensor([1, 0], dtype=T.uint8)]
    x[0, :, [0, 1]]; x[[0], :, [0, 1]]; x[:, 0, [0, 1]]; x[T.tensor(0), :, [0, 1]]; x[None, 0, :, [0, 1]]
    x[[0, 1], None, [0, 1]]; x[..., [0, 1], 0]; x[[]]; x[T.tensor([])]; x[T.tensor([], dtype=T.int64)]
    x[T.tensor([[0, 1], [1, 0]])]; x[np.array([0, 1])]; x[np.array(1)]; x[np.int32(1)]; x[T.tensor(5)]; x[T.tensor(1)]
    x[range(2)]; x[[True, False]]; x[m]; x[x > 0]; x[:, m[0]]; x[m2]; x[m2, 1]; x[0, m[0]]; x[1:, m[0]]; x[m[:, :2]]
    x[T.tensor(0), T.tensor(1)]; x[[T.tensor(0), T.tensor(1)]]; x[T.tensor([[0], [1]]), T.tensor([0, 1, 2])]; s[0]
    s[...]; s[None]; s[()]; x[T.tensor([0, 1], dtype=T.int32)]; x[True, [0, 1]]; x[[True, False], None, [0]]
    x[T.tensor([0, 1, 1]), :, T.tensor([0, 0, 0])]; x[:, T.tensor([0, 0]), 1:]; x[:, :, T.tensor([3, 3, 0])]
    x[:, [0, 1], ..., [0, 1]]; x[..., [0, 1], [0, 1], [0, 1]]; x[:, None, ..., [0, 1], [1, 0]]
    x[[0, 1], ..., [0, 1], 0]; x[:, m[0, 0], ..., [0]]; x[:, [0, 1], ..., [0, 1], [0, 0]]; x[0, T.tensor([1, 1])]
    e[0]; e[:]; e[:, T.tensor([0, 1])]; e[T.tensor([], dtype=T.int64)]; x[m[0, 0, 0]]
    put(x, 0, 1.5); put(x, 0, w); put(x, (0, 1), v[:4]); put(x, T.tensor([0]), w); put(x, m, 0.0); put(x, m, s)
    put(x, m, x.detach()[m] * 2); put(x, m, x[m] * 2); put(x, (slice(None), 0), v[:4])
    put(x, (slice(None), [0, 2]), v[:4]); put(x, ([0, 1], slice(None), [1, 2]), v[:3]); put(x, 0, T.ones(1, 1, 4))
    put(x, 0, T.ones(1, 3, 4, dtype=T.float64)); put(x, 0, T.ones(2, 4, dtype=T.float64))
    put(x, ([0, 1],), T.ones(2, 4, dtype=T.float64)); put(x, T.tensor([0, 1]), T.ones(3, 4, dtype=T.float64))
    put(x, m, T.ones(3, dtype=T.float64)); put(x, 5, 1); put(x, T.tensor([5]), 1); put(x, (0, ...), w); put(x, None, w)
    put(x, (None, 0), w); put(x, (0, None, slice(1, 3)), w[1:]); put(x, m2, w[:1]); put(x, (0, T.tensor([0, 1])), w[:2])
    put(s, ..., 3.0); put(s, (), 3.0); put(T.tensor([1, 2, 3]), 0, 1.5); put(T.tensor([1, 2, 3]), 0, T.tensor(1.5))
    put(T.tensor([1, 2, 3]), T.tensor([0]), T.tensor([1.5]))
    put(T.tensor([1, 2, 3]), T.tensor([True, True, False]), T.tensor([1.5, 2.0])); put(x, T.tensor([True, False]), w)
    x.gather(0, T.tensor([0])); x.gather(0, li[:, :3]); T.gather(x, dim=1, index=li); x.gather(2, li[:, :3, :2])
    x.gather(-1, li[:1, :3, :2]); x.gather(0, T.zeros(1, 4, 4, dtype=T.int64)); x.gather(0, T.full((1, 1, 1), 5))
    x.gather(0, T.full((1, 1, 1), -1)); x.gather(0, T.zeros(1, 1, 1, dtype=T.int32)); x.gather(0, T.zeros(1, 1, 1))
    s.gather(0, T.tensor(0)); s.gather(0, T.tensor([0, 0])); v.gather(0, T.tensor([], dtype=T.int64))
    x.gather(0, T.tensor([], dtype=T.int64)); x.index_select(0, T.tensor([1, 1, 0]))
    T.index_select(x, 2, T.tensor([1, 1, 0])); x.index_select(0, T.tensor([5])); x.index_select(0, T.tensor([-1]))
    x.index_select(0, T.tensor([[0]])); x.index_select(0, T.tensor(0)); x.index_select(0, T.tensor([0.0]))
    s.index_select(0, T.tensor([0])); a.scatter(0, T.tensor([[0, 1, 0]]), a[:1] * 2)
    v.scatter(0, T.tensor([0, 2]), v[:2]); v.scatter(0, T.tensor([0, 1]), 5); v.scatter(0, T.tensor([0, 1]), value=2.5)
    v.scatter(0, T.tensor([0, 5]), 5); v.scatter(0, T.tensor([0, 1]), T.tensor([1, 2]))
    v.detach().scatter(0, T.tensor([0, 0]), T.tensor([2.0, 3.0], dtype=T.float64), reduce='multiply')
    v.scatter(0, T.tensor([0, 0]), v[1:3], reduce='x'); v.scatter(0, T.tensor([0, 1, 2, 2]), v[:3])
    x.scatter_add(1, li[:, :3], x * 2); v.scatter_add(0, T.tensor([0, 0]), v[3:])
    v.scatter_add(0, T.tensor([0, 0]), T.tensor([1.0, 2.0])); s.scatter_add(0, T.tensor(0), s)
    v.scatter_reduce(0, T.tensor([0, 0, 1]), v[2:], 'sum'); v.scatter_reduce(0, T.tensor([0, 0, 1]), v[2:], 'mean')
    v.scatter_reduce(0, T.tensor([0, 0, 1]), v[2:], 'amax'); v.scatter_reduce(0, T.tensor([0, 0, 1]), v[2:], 'amin')
    v.scatter_reduce(0, T.tensor([0, 0, 1]), v[2:], 'amin', include_self=False)
    v.scatter_reduce(0, T.tensor([0, 0, 1]), v[2:], 'mean', include_self=False)
    v.scatter_reduce(0, T.tensor([0, 0, 1]), v[2:], 'sum', include_self=False)
    v.detach().scatter_reduce(0, T.tensor([0, 0, 1]), v[2:].detach(), 'prod')
    v.detach().scatter_reduce(0, T.tensor([0, 0, 1]), v[2:].detach(), 'prod', include_self=False)
    v.scatter_reduce(0, T.tensor([0, 0]), v[:2], 'foo')
    T.tensor([1, 2, 3]).scatter_reduce(0, T.tensor([0, 0]), T.tensor([1, 3]), 'mean')
    T.tensor([1, 2, 3]).scatter_reduce(0, T.tensor([0, 0]), T.tensor([-1, -3]), 'amax', include_self=False)
    v.index_add(0, T.tensor([0, 0]), v[:2]); x.index_add(1, T.tensor([0, 0]), x[:, :2])
    x.index_add(1, T.tensor([0, 0]), x[:, :2], alpha=2); v.index_add(0, T.tensor([0, 0]), v[:3])
    v.index_add(0, T.tensor([0, 5]), v[:2]); v.index_add(0, T.tensor([0, -1]), v[:2])
    x.index_add(0, T.tensor([0, 1]), x[:, :2]); v.index_add(0, T.tensor([0, 0]), T.tensor([1, 2]))
    x.index_copy(1, T.tensor([0, 2]), x[:, :2] * 2); x.index_copy(0, T.tensor([0, 1]), x[:, :2])
    x.index_copy(0, T.tensor([0, 5]), x); x.index_fill(1, T.tensor([0, 2]), 7); x.index_fill(1, T.tensor([0, -1]), 7)
    x.index_fill(1, T.tensor([0, 1]), s); x.index_fill(0, T.tensor([0, 1]), v); x.index_fill(0, T.tensor([0, 9]), 1)
    v.index_put((T.tensor([0, 0]),), v[:2], accumulate=True)
    x.index_put((T.tensor([0, 0]), T.tensor([1, 1])), w[0], accumulate=True); v.index_put((T.tensor([0, 1]),), v[:2])
    x.index_put((m,), s); x.index_put((T.tensor([9]),), s); x.take(T.tensor([0, -1, 2, 2])); x.take(T.tensor([[0, -1]]))
    x.take(T.tensor([25])); x.take(T.tensor([0.0])); T.take_along_dim(x, T.tensor([0, 1]))
    T.take_along_dim(x, T.tensor([[[0]]]), dim=2); T.take_along_dim(x, T.tensor([[[0], [1], [2]]]), dim=2)
    T.take_along_dim(x, T.tensor([0]), dim=2); v.put(T.tensor([1, 1]), v[:2], accumulate=True)
    v.put(T.tensor([1, -1]), v[:2]); v.put(T.tensor([1, 7]), v[:2]); x.masked_select(m); x.masked_select(m[0])
    x.masked_select(T.tensor([True, False, True, False])); x.masked_select(T.tensor([1, 0, 0, 0]))
    s.masked_select(T.tensor(True)); v.masked_scatter(T.tensor([True, False, True, False, False]), v[2:])
    x.masked_scatter(T.tensor([True, False, True, False]), x)
    v.masked_scatter(T.tensor([True, False, True, False, False]), v[:1]); T.nonzero(T.tensor([1, 0, 2]))
    T.nonzero(T.tensor([[1, 0], [0, 2]]), as_tuple=True); T.tensor([[1, 0], [0, 2]]).nonzero(); T.nonzero(T.tensor(3))
    T.nonzero(T.tensor(3), as_tuple=True); T.nonzero(T.tensor(0), as_tuple=True); T.nonzero(T.tensor(0))
    T.argwhere(T.tensor(3)); T.argwhere(m); x.nonzero(); T.searchsorted(T.tensor([1.0, 3, 5]), T.tensor([3.0, 6]))
    T.searchsorted(T.tensor([1.0, 3, 5]), 3.0)
    T.searchsorted(T.tensor([1.0, 3, 5]), T.tensor([3.0, 6]), right=True, out_int32=True)
    T.searchsorted(T.tensor([[1.0, 3, 5], [0, 1, 2]]), T.tensor([[3.0, 6], [1, 1]]))
    T.searchsorted(T.tensor([[1.0, 3, 5], [0, 1, 2]]), T.tensor([3.0, 6]))
    T.searchsorted(T.tensor([1.0, 3, 5]), T.tensor([3.0, 6]), side='right')
    T.searchsorted(T.tensor([3.0, 1.0, 5.0]), T.tensor([3.0, 6]), sorter=T.tensor([1, 0, 2]))
    T.bucketize(T.tensor([[3.0, 6]]), T.tensor([1.0, 3, 5])); T.bucketize(3, T.tensor([1.0, 3, 5]), right=True)
    (x * 1).scatter_(dim=1, index=li[:, :2], value=0.0); (x * 1).scatter_add_(1, li[:, :3], x * 2)
    (x * 1).index_add_(1, T.tensor([0, 0]), x[:, :2]); (x * 1).index_fill_(1, T.tensor([0, 0]), 3.0)
    (x * 1).index_copy_(1, T.tensor([0, 2]), x[:, :2]); (x * 1).masked_scatter_(m, x)
    (v * 1).put_(T.tensor([1, -1]), v[:2]); T.zeros(3, 5).scatter_(1, T.tensor([[0], [2], [4]]), 1)
    x.scatter_(1, li[:, :2], x * 2)
"""

PRODUCTS_AND_LINEAR_ALGEBRA = """
    T.linalg.inv(A * 0); T.linalg.inv(B * 0); T.linalg.solve(A * 0, v); T.linalg.solve(B * 0, B)
    T.linalg.cholesky(-P); T.linalg.cholesky(-Bs); T.linalg.solve(A, B); T.linalg.solve(B, A); T.linalg.solve(B, m5.mT)
    x @ y; T.matmul(x, y); x.mm(y); x.matmul(v); v @ y; v @ v; b3 @ c3; b3 @ u; v @ b3; x @ b3
    d4 @ c3[:1].expand(5, 2, 4, 5); b3 @ T.ones(4, 2, dtype=T.float64); m5 @ y; x @ x; T.mm(x, x); T.mm(x, v)
    T.bmm(x, y); T.bmm(b3, c3); T.bmm(b3, b3); T.bmm(b3[:1], c3); T.mv(x, v); T.mv(x, y); T.mv(x, u); T.dot(v, v)
    T.dot(v, u); T.dot(x, v); T.vdot(v, v); v @ u; v @ s; b3 @ b3; x @ v.float(); x @ u; v @ x; b3 @ v
    (v > 0) @ (v > 0); T.outer(v, u); v.outer(u); v.ger(u); T.outer(x, v); T.inner(x, v); T.inner(v, v); T.inner(x, x)
    T.inner(v, s); T.inner(x, u); T.addmm(z, x, y); T.addmm(z, x, y, beta=0.5, alpha=2); z.addmm(x, y); T.addmm(v, x, y)
    T.addmm(u[:2], x, y); T.addmv(x[:, 0], x, v)
    T.baddbmm(T.zeros(2, 3, 5, dtype=T.float64), b3, c3, beta=2, alpha=0.5)
    T.addbmm(w[:3] @ T.ones(3, 5, dtype=T.float64), b3, c3); T.addr(x, x[:, 0], v); F.linear(x, w)
    F.linear(x, v); F.linear(v, v, s)
    F.linear(m5, w, w[:, 0]); F.linear(v, w, w[:, 0]); F.linear(x, y); F.linear(x, w, v); T.einsum('ij,jk->ik', x, y)
    T.einsum('ij,jk', x, y); T.einsum('ij,jk->ki', x, y); T.einsum('ij,jk->', x, y); T.einsum('ij,jk->i', x, y)
    T.einsum('ij,jk->ik', x); T.einsum('ij->ik', x); T.einsum('ijk->i', x); T.einsum('i?->i', x); T.einsum('ij->ii', x)
    T.einsum('ij,kj', x, x); T.einsum('...j,kj->...k', m5, x); T.einsum('ii', A); T.einsum('ii->i', A)
    T.einsum('bii->bi', B); T.einsum('bii,bij->bj', B, B)
    T.einsum('iji->j', T.ones(2, 3, 2, dtype=T.float64) * x.sum()); T.einsum(x, [0, 1], x, [2, 1], [0, 2])
    T.einsum(x, [0, 1], x, [2, 1]); T.einsum(m5, [Ellipsis, 0], x, [1, 0], [Ellipsis, 1])
    T.einsum('ij,ij->ij', x, x[:1]); T.einsum('ij,ij->', x, x[:1]); T.einsum('bij,bjk->bik', b3, c3[:1])
    T.einsum('i j , j k -> i k', x, y); T.einsum('...', x); T.einsum('i...->...', x); T.einsum('ij->', x)
    T.einsum('', s); T.einsum(',', s, s); T.einsum('i,->i', v, s); T.einsum('ba', x); T.einsum('Ab->bA', x)
    T.einsum('...ij,...j', x, v); T.einsum('ij->...ij', x); T.einsum('i...j->ij', b3)
    T.einsum('ij,jk,kl->il', x, y, T.ones(4, 2, dtype=T.float64)); T.einsum('ij,jk,ij->k', x, y, x)
    T.einsum('i,j,k->ijk', v, u, v); T.einsum('bij,bjk,bk->bi', b3, c3, m5[:, :, 0])
    T.einsum('bhid,bhjd->bhij', d4, d4); T.einsum('bhij,bhjd->bhid', d4, d4.transpose(2, 3))
    T.einsum('bqhd,bkhd->bhqk', d4, d4); T.einsum('i,i->i', v, v); T.einsum('i,i', v, v); T.einsum('ij,j', x, v)
    T.einsum('ij,jk->ik', [x, y]); T.einsum('ij,jk->ik', x, x); T.einsum('ij,jk->ik', x.float(), y)
    T.einsum('i,j->ij', T.tensor([1, 2]), T.tensor([3, 4]))
    T.einsum('ij,jk->ik', T.tensor([[1, 2]]), T.tensor([[3], [4]])); T.tensordot(x, x, 2); T.tensordot(x, x, ([1], [1]))
    T.tensordot(x, y, 1); T.tensordot(x, x, 0); T.tensordot(x, y, dims=([1], [0]))
    T.tensordot(b3, c3, dims=([0, 2], [0, 1])); T.tensordot(x, z, 1); T.tensordot(x, x, dims=3)
    T.tensordot(x, x, dims=([0, 1], [0])); T.kron(x, v); T.kron(x, y); T.cross(A, A * 2, dim=0)
    T.cross(x, x[[1, 0]], dim=1); T.cross(x, x, dim=0); T.linalg.cross(x, x[[1, 0]]); T.linalg.cross(x, v); T.trace(A)
    T.trace(v); T.trace(x); A.trace(); T.linalg.inv(A); T.linalg.inv(B); A.inverse(); T.linalg.inv(x)
    T.linalg.inv(A.half()); T.linalg.inv(T.tensor([[1, 2], [3, 4]])); T.linalg.inv(v); T.linalg.solve(A, v)
    T.linalg.solve(A, x.T); T.linalg.solve(B, x); T.linalg.solve(B, B); T.linalg.solve(A, x, left=False)
    T.linalg.solve(B, m5.transpose(1, 2)); T.linalg.solve(A, u); T.linalg.det(A); T.linalg.det(B); A.det(); T.det(x)
    T.linalg.slogdet(A); T.slogdet(B); T.logdet(P); T.linalg.cholesky(P); T.linalg.cholesky(Bs)
    T.linalg.cholesky(P, upper=True); T.cholesky(P); T.linalg.qr(A)[1].abs(); T.linalg.qr(w)[1].abs()
    T.linalg.qr(w.detach(), mode='r')[1].abs(); T.linalg.qr(w, mode='x'); T.linalg.eigh(P)[0]
    T.linalg.eigh(Bs)[1].abs(); T.linalg.eigh(P, UPLO='U')[0]; T.linalg.eigvalsh(P); T.linalg.eigh(x)
    T.linalg.svd(A)[1]; T.linalg.svd(w, full_matrices=False)[0].abs(); T.linalg.svd(w, full_matrices=False)[2].abs()
    T.linalg.svd(w.detach())[0].shape; T.linalg.svd(v); T.linalg.svdvals(B); T.svd(w)[2].abs(); T.svd(w)[2].shape
    T.linalg.pinv(w); T.linalg.pinv(m5); T.pinverse(w); T.linalg.matrix_rank(A)
    T.linalg.matrix_rank(T.ones(3, 3, dtype=T.float64)); T.linalg.matrix_rank(B); T.linalg.matrix_power(A, 2)
    T.matrix_power(A, -1); T.linalg.matrix_power(B, 3); T.linalg.matrix_power(x, 2); T.linalg.norm(A)
    T.linalg.norm(A, 'fro'); T.linalg.norm(A, 'nuc'); T.linalg.norm(A, 2); T.linalg.norm(A, -2); T.linalg.norm(A, 3)
    T.linalg.norm(A, 'foo'); T.linalg.norm(A, dim=1); T.linalg.norm(x, 2, dim=(0, 1), keepdim=True)
    T.linalg.norm(x, ord=2, dim=1); T.linalg.norm(b3); T.linalg.norm(b3, 2); T.linalg.norm(b3, 2, dim=(0, 2))
    T.linalg.norm(v, 3); T.linalg.vector_norm(A); T.linalg.vector_norm(A, 3, dim=(0, 1), keepdim=True)
    T.linalg.vector_norm(T.tensor([1, 2])); T.linalg.matrix_norm(A); T.linalg.matrix_norm(b3, 'nuc')
    T.linalg.matrix_norm(b3, 2, dim=(0, 1)); T.linalg.matrix_norm(A, 0); T.linalg.matrix_norm(v)
    T.linalg.multi_dot([x, y, T.ones(4, 2, dtype=T.float64)]); T.linalg.multi_dot([v, A, v]); T.linalg.multi_dot([v])
    T.chain_matmul(x, y); T.linalg.cond(A); T.linalg.lstsq(w, m5[0])[0]; T.matrix_exp(A); T.linalg.matrix_exp(B * 5)
    T.linalg.vecdot(x, x); T.linalg.vecdot(x, v); T.linalg.solve_triangular(A, x.T, upper=True)
    T.linalg.solve_triangular(A, x, upper=False, left=False)
    T.linalg.solve_triangular(A, x.T, upper=True, unitriangular=True); T.cholesky_solve(x.T, T.linalg.cholesky(P))
    T.linalg.diagonal(B); T.linalg.matmul(x, y); distances(x, w); distances(b3, d4, 1.0); distances(x, x)
    distances(w, x, p=3); distances(w.repeat(6, 1), x); distances(x, y); distances(x, v); distances(x, x, -1.0)
    distances(w.repeat(6, 1), w, compute_mode='donot_use_mm_for_euclid_dist'); distances(x, w, 0.0)
    distances(x, w, compute_mode='use_mm_for_euclid_dist'); distances(x, x, compute_mode='no'); distances(x[:0], w)
    distances(w.repeat(6, 1), w.repeat(6, 1)[:, [1, 0, 2]])
    T.ger(v, u); T.cholesky_inverse(T.linalg.cholesky(P)); T.cholesky_inverse(A.detach())
    T.cholesky_inverse(A.detach(), upper=True); T.linalg.cholesky(Bs, upper=True).cholesky_inverse(upper=True)
    T.cholesky_inverse(x); T.cholesky_inverse(v); T.linalg.cholesky(A @ A.T, upper=True); T.linalg.cholesky_ex(P)
    T.linalg.cholesky_ex(Bs); T.linalg.cholesky_ex(P, upper=True); T.linalg.cholesky_ex(-P)[1]
    T.linalg.cholesky_ex(-P, check_errors=True); T.linalg.cholesky_ex(Bs * T.tensor([[[1.0]], [[-1.0]]]))[1]
    T.linalg.cholesky_ex(Bs * T.tensor([[[1.0]], [[-1.0]]])).L[0]; T.linalg.cholesky_ex(x)
    T.linalg.cholesky_ex(T.tensor([[1.0, 2, 0], [2, 5, 0], [0, 0, -1]])).info
    T.linalg.cholesky_ex(T.tensor([[1.0, 9], [0, 1]]), upper=True).info; T.linalg.inv_ex(A); T.linalg.inv_ex(B)
    T.linalg.inv_ex(A * 0)[1]; T.linalg.inv_ex(A * 0, check_errors=True)
    T.linalg.inv_ex(T.tensor([[1.0, 2], [2, 4]])).info; T.linalg.inv_ex(x)
    T.linalg.inv_ex(B.detach() * T.tensor([[[0.0]], [[1.0]]]))[0][1]; T.linalg.vander(v); T.linalg.vander(x)
    T.linalg.vander(x, N=2); T.linalg.vander(v, N=1); T.linalg.vander(v[0]); T.linalg.vander(v > 0)
    T.linalg.vander(T.tensor([1, 2, 3])); (z * 1).addmm_(x, y); (z * 1).addmm_(x, y, beta=0.5, alpha=2)
    (x[:, 0] * 1).addmv_(x, v); T.addmv_(x[:, 0] * 1, x, v); (b3[:, :, :1] * 1).baddbmm_(b3, c3[:, :, :1])
    (T.zeros(3, 5, dtype=T.float64)).addbmm_(b3, c3); (x * 1).addr_(x[:, 0], v); v.addmm_(x, y)
    (u[:2] * 1).addmm_(x, y); T.cdist(x, w, 2, 'use_mm_for_euclid_dist'); T.cdist(T.cat([w] * 6), x)
    T.cdist(m5, c3.mT[..., :3], compute_mode='use_mm_for_euclid_dist'); T.cdist(x, y); T.cdist(v, x); T.cdist(x, v)
    T.cdist(x, x.float()); T.cdist(x, x.long()); T.cdist(x.long(), x); T.cdist(x.half(), x.half()); T.cdist(x, x, -1)
    T.cdist(x, x, compute_mode='x'); T.cdist(x, w, compute_mode=None)
    T.cdist(m5[:1], m5 * 2, compute_mode='use_mm_for_euclid_dist'); T.pdist(v); T.pdist(w[:1].detach()); T.pdist(w, -1)
    T.pdist(w.long()); T.cdist(x.detach(), w.detach()); T.cdist(x.detach(), x.detach())
    T.cdist(x.detach(), w.detach(), 1); T.cdist(x.detach(), w.detach(), p=np.inf); T.cdist(x.detach(), w.detach(), 3.5)
    T.cdist(x.detach(), w.detach(), 0.5); T.cdist(x.detach(), w.detach(), 0)
    T.cdist(T.cat([w.detach()] * 6), x.detach(), compute_mode='donot_use_mm_for_euclid_dist')
    T.cdist(m5.detach(), x.detach()); T.cdist(m5.detach(), arr234.detach().mT[..., :3])
    T.cdist(m5.detach()[:, None], m5.detach()); T.cdist(m5.detach()[:1], m5.detach(), 1)
    T.cdist(x.detach()[:, :0], w.detach()[:, :0]); T.cdist(x.detach()[:0], w.detach())
    T.cdist(x.detach(), w.detach()[:0], 3); T.cdist(x.detach().float(), w.detach().float(), 1.5); T.pdist(w.detach())
    T.pdist(w.detach(), 1); F.pdist(w.detach(), np.inf); T.pdist(w.detach(), 0); T.pdist(w.detach()[:, :0])
    T.pdist(w.detach()[:0]); T.pdist(w.detach(), p=3)
    T.triangular_solve(x.T, A)[0]; T.triangular_solve(x.T, A, upper=False, transpose=True); T.ger(v, u)
    x.T.triangular_solve(A, False, False, True).solution
"""

STATISTICS = """
    x.quantile(0.3); T.quantile(x, 0.5, 1); T.quantile(x, q, dim=2, keepdim=True); T.quantile(x, q, 0); x.quantile(q)
    T.quantile(x, 0.25, keepdim=True); T.quantile(x, q, keepdim=True); T.quantile(s, q); T.quantile(s, 0.2, 0, True)
    T.quantile(x, q, -1, interpolation='lower'); T.quantile(x, q, 1, interpolation='higher'); T.quantile(v, 1)
    T.quantile(x, q, 1, interpolation='nearest'); T.quantile(x, 0.3, interpolation='midpoint'); T.quantile(v, 0)
    T.quantile(x.float(), q.float(), 1); T.quantile(x.float(), 0.7); T.quantile(n, q, 1); T.quantile(n, 0.5)
    T.nanquantile(n, q, 1); T.nanquantile(n, 0.3); n.nanquantile(0.5, 0, True); T.nanquantile(n[1], q, axis=0)
    T.quantile(li, 0.5); T.quantile(e, 0.5); T.quantile(x, 1.5); T.quantile(x, q.float()); T.quantile(x, w)
    T.quantile(x, 0.5, interpolation='x'); T.quantile(x, 0.5, 3); T.quantile(x, [0.5]); T.quantile(x.half(), 0.5)
    T.quantile(v, q[:0]); T.quantile(T.stack([v, v]), q, 0)
    T.histc(x, 4); T.histc(v, 3, -1, 1); x.histc(bins=5, min=-0.5, max=2); T.histc(n, 3, 0, 3); T.histc(n, 3)
    T.histc(T.ones(3), 3); T.histc(e, 3); T.histc(x, 3, 5, 1); T.histc(x, 0); T.histc(li); T.histc(x.float(), 7, -1, 1)
    T.histogram(x.detach(), 4); T.histogram(v.detach(), 3, range=(-1.0, 1.0)); T.histogram(n.detach(), 3)
    x.detach().histogram(edges.detach(), density=True); T.histogram(a.detach(), edges.detach(), weight=a.detach() * 2)
    T.histogram(T.ones(3), 3); T.histogram(e.detach(), 3); T.histogram(li, 3); T.histogram(x.detach(), 0)
    T.histogram(x.detach(), edges.float()); T.histogram(x.detach(), edges[None]); T.histogram(T.tensor([0.0, 1, 2]), 2)
    T.histogram(x.detach(), 3, range=(1.0, 0.0)); T.histogram(x.detach(), 3, range=(1.0,))
    T.histogram(x.detach(), 3, weight=w.detach()); T.histogram(edges.detach(), edges.detach())
    T.isin(li, T.tensor([1, 2])); T.isin(li, 1); T.isin(2, li); T.isin(li, T.tensor([1.0, 2.5]), invert=True)
    T.isin(T.tensor([0.1, 0.2]), 0.1); T.isin(x, x[0, 0]); T.isin(n, n[:1], assume_unique=True); T.isin(e, x)
    T.isin(1, 1); T.isin([1], li); T.isin(li, T.tensor([])); T.polygamma(2, v); T.polygamma(0, v); v.polygamma(1)
    T.polygamma(-1, v); T.lgamma(li + 1); v.digamma(); (v * 1).lgamma_(); (v * 1).polygamma_(1)
    T.cov(a); T.cov(v); a.cov(correction=0); T.cov(a, fweights=T.tensor([1, 2, 3])); T.cov(e[:, :1]); T.cov(x)
    T.cov(s); T.cov(a, fweights=T.tensor([1, 2, 3]), aweights=T.tensor([0.5, 1, 2], dtype=T.float64)); T.cov(a[:, :1])
    T.cov(a, aweights=T.tensor([0.5, 1, 2], dtype=T.float64), correction=0); T.corrcoef(a); a.corrcoef(); T.corrcoef(v)
    T.diff(x); T.diff(v, 2); x.diff(dim=0); T.diff(x, dim=1, prepend=x[:, :1]); T.diff(v, append=v[:2]); T.diff(v, 7)
    T.diff(m); T.diff(v, 0); T.diff(s); T.diff(v, -1); T.diff(x, 1, 3); T.trapezoid(v); T.trapezoid(x, dx=0.5, dim=1)
    T.trapezoid(x, w.detach()[0]); T.trapz(a, a); T.trapezoid(x, x[0, :, 0], dim=1); T.erfinv(x / 4); (v / 4).erfinv_()
    T.erfinv(T.tensor([-1.0, 1, 1.5, 0, 0.999999, -0.3, 1e-30])); T.erfinv(li // 4)
    T.erfinv(T.tensor([1 - 1e-15, 1 - 1e-9, 0.5, -0.49], dtype=T.float64)); T.logit(q[1:3]); q[1:3].logit(0.3)
    T.deg2rad(v); T.rad2deg(x); T.deg2rad(li); T.special.expit(v); T.special.gammaln(q + 1); T.special.psi(q + 1)
    T.special.logit(q[1:3]); T.special.ndtr(v); T.special.entr(q[1:]); T.special.xlog1py(q[1:], q[1:])
    T.special.exp2(v); T.special.log_softmax(a, dim=1); T.special.entr(v.detach()); T.special.ndtri(q[1:3])
    T.special.logsumexp(a, 1); T.special.xlogy(q, q); T.special.erfinv(q)
    T.cummax(x, 1); x.cummax(-1); T.cummin(x, dim=0); T.cummax(s, 0); T.cummax(n, 1); T.cummin(n, 1); T.cummax(li, 1)
    T.cummin(li, 2); T.cummax(m, 0); T.cummax(e, 0); T.cummax(x, 3); T.cummax(li, 1).indices; T.cummin(e, 1)
    T.logcumsumexp(x, 1); x.logcumsumexp(0); T.logcumsumexp(s, 0); T.logcumsumexp(v * 30, 0); T.logcumsumexp(li, 0)
    T.logcumsumexp(n.detach(), 1); T.logcumsumexp(e, 0); T.logcumsumexp(x, 4)
    T.logcumsumexp(T.tensor([-np.inf, -np.inf, 1.0, np.inf, 2.0]), 0); T.logcumsumexp(x.float(), -1); T.kthvalue(x, 2)
    x.kthvalue(1, 0); T.kthvalue(x, 2, dim=1, keepdim=True); T.kthvalue(s, 1); T.kthvalue(x, 0); T.kthvalue(x, 5)
    T.kthvalue(n[0], 4); T.kthvalue(n[0], 3); T.kthvalue(e, 1); T.kthvalue(e, 1, 0); T.kthvalue(m, 1)
    T.kthvalue(li, 3, 1).values; T.mode(li); li.mode(1); T.mode(li, 0, True); T.mode(x); T.mode(s); T.mode(e, 0)
    T.mode(e, 1); T.mode(m, 1)[0]; T.nanmedian(x); T.nanmedian(n); T.nanmedian(n[:2], 1); n.nanmedian(0, True)
    T.nanmedian(s, 0); T.nanmedian(e); T.nanmedian(e, 0); T.nanmedian(li); T.nanmedian(m); T.nanmedian(n[2])
    T.nanmedian(n[:2], dim=-1).indices; T.float_power(x, 2); T.float_power(2, x); (x * 1).float_power_(2)
    (x.float()).float_power_(2); T.msort(x); T.msort(s); T.msort(n); T.unique_consecutive(T.tensor([1, 1, 2, 1]))
    T.unique_consecutive(T.tensor([1, 1, 2, 1]), True, True)
    T.unique_consecutive(li, return_inverse=True, return_counts=True); T.unique_consecutive(n.detach())
    T.unique_consecutive(m, dim=1); T.unique_consecutive(T.tensor([[1, 1, 1], [1, 1, 2]]), True, True, dim=1)
    T.unique_consecutive(s.detach(), True, True)
    T.unique_consecutive(T.tensor([[1, 2], [1, 2], [3, 2]]), dim=0, return_counts=True)
    T.unique_consecutive(e.detach(), True, True); T.unique_consecutive(e.detach(), True, True, 0)
    T.unique_consecutive(x.detach(), dim=5); li.unique_consecutive(dim=2); x.diff(dim=1); T.diff(x, 2, 0); T.diff(x, 2)
    T.diff(m, 2, 2); T.diff(li, dim=1); T.diff(x, 0); T.diff(x, -1); T.diff(a, prepend=a[:, :1])
    T.diff(a, 1, 0, a[:1] * 2, a); T.diff(a, append=v); T.diff(e); T.diff(e, dim=0); T.diff(a, prepend=li[0, :2, :1])
    T.diff(x, n=1, axis=1); T.diff(x, dim=3); T.diff(T.tensor([200, 100], dtype=T.uint8)); T.trapezoid(x)
    T.trapezoid(x, dim=1); T.trapezoid(a, dx=0.5); T.trapezoid(a, a[0]); T.trapezoid(a, a * 2, dim=0)
    T.trapz(v, v * v); T.trapz(v, dx=2); T.trapezoid(x, w, dim=1); T.trapezoid(a, v); T.trapezoid(a, v, dx=1)
    T.trapezoid(li); T.trapezoid(li, dx=2); T.trapezoid(m); T.trapezoid(s); T.trapezoid(e); T.trapezoid(e, dim=0)
    T.trapezoid(a, li[0, 0, :3]); T.trapezoid(v, a.new_zeros(2, 5)); T.trapezoid(a[0], a); T.trapezoid(v, x)
    T.trapezoid(v, m2[0]); T.cumulative_trapezoid(x, dim=1); T.cumulative_trapezoid(a, a[0])
    T.cumulative_trapezoid(a, a * 2, dim=0); T.cumulative_trapezoid(v, dx=0.5); T.cumulative_trapezoid(li)
    T.cumulative_trapezoid(li, li); T.cumulative_trapezoid(m); T.cumulative_trapezoid(s); T.cumulative_trapezoid(e)
    T.cumulative_trapezoid(a, v); T.cov(li[0]); T.cov(m2); T.cov(e); T.cov(e.t())
    T.cov(a, fweights=T.tensor([1, 2, 0])); T.cov(a, aweights=v[:3] ** 2)
    T.cov(arr2, aweights=v ** 2, fweights=T.tensor([1, 2, 0, 1, 3]), correction=2)
    T.cov(a, fweights=T.tensor([0, 0, 0])); T.cov(a, fweights=v[:3]); T.cov(a, aweights=T.tensor([1, 2, 3]))
    T.cov(a, aweights=v ** 2); T.cov(a, fweights=T.tensor([1, -2, 3])); T.cov(a, correction=3); arr2.corrcoef()
    T.corrcoef(x); T.corrcoef(li[0]); T.corrcoef(s); T.cov(a, aweights=v[:3] * 0 + 1, correction=0)
"""

WRITTEN = """
    T.add(a, 1, out=target); T.add(a, a, alpha=2, out=target); T.mul(a, a, out=target); T.exp(a, out=target)
    T.matmul(a, w, out=target); T.clamp(a, 0, 1, out=target); T.cat([a, a], out=target)
    T.max(a, 1, out=(target, T.empty(0, dtype=T.int64))); T.eye(2, out=target); T.arange(3, out=target)
    T.full((2,), 3, out=target); T.zeros(2, out=target); T.gt(a, 0, out=target); T.sub(a, 1, out=small)
    T.add(m2, m2, out=target); T.exp(a, out=T.zeros(2, 3, dtype=T.int64)); T.sum(a, 1, out=target)
    T.where(a > 0, a, 0 * a, out=target); T.max(a, 1, out=target); T.linspace(0, 1, 3, out=target)
    T.rand(2, out=target).shape; T.randperm(3, out=T.empty(0, dtype=T.int64)).shape; T.add(a, 2, a); a.sub(2, a)
    T.addcmul(a, 2, a, a); (a * 1).add_(0.5, a); (a * 1).addcdiv_(-2, a, a * a); T.addcdiv(a, 3, a, a)
    (a * 1).sub_(1.5, a).addcmul_(2.0, a, a); (target + 0).fill_diagonal_(3)
    T.zeros(7, 2).fill_diagonal_(1, wrap=True); T.zeros(3, 3, 3).fill_diagonal_(2); T.zeros(2, 3, 3).fill_diagonal_(2)
    T.zeros(3).fill_diagonal_(2); T.zeros(2, 4).fill_diagonal_(-1)
"""

ELEMENTWISE = """
    T.copysign(x, -1.0); T.copysign(x, -x); T.copysign(li, -1); T.copysign(li, x); x.copysign(T.tensor(-0.0))
    (x * 1).copysign_(-x); T.copysign(T.tensor([0.0, -0.0, np.nan, np.inf]), T.tensor([-1.0, 1.0, -1.0, -0.0]))
    T.signbit(x); T.signbit(li - 1); T.signbit(m); T.signbit(T.tensor([0.0, -0.0, np.inf, -np.inf])); T.deg2rad(li)
    T.rad2deg(x); (x * 1).deg2rad_(); T.rad2deg_(x * 1); T.gcd(li, T.tensor(6)); T.gcd(li, li + 2); T.gcd(x, x)
    T.gcd(m, m); T.lcm(li, li + 1); T.lcm(li - 3, T.tensor(4)); T.lcm(x, x); T.gcd(li.int(), li.to(T.uint8))
    T.lcm(li.int(), li); (li * 4).gcd_(T.tensor(6)); T.lcm_(li * 2, T.tensor(3)); T.ldexp(x, li[0, :3])
    T.ldexp(li, li); T.ldexp(li, x[:, :1]); T.ldexp(x.float(), T.tensor(3)); (x * 1).ldexp_(li[0, :3])
    (li * 1).ldexp_(li); T.logaddexp2(x, w); T.logaddexp2(x, s)
    T.logaddexp2(T.tensor([np.inf, -np.inf, np.nan, 1.0]), T.tensor([np.inf, -np.inf, 1.0, 2000.0]))
    T.sinc(x.detach()); T.sinc(v); T.sinc(li); (x * 1).sinc_(); T.sinc(T.zeros(2)); T.positive(x); T.positive(m)
    T.positive(li); x.positive(); T.logit(x, 0.1); T.logit(x, eps=1e-6); x.sigmoid().logit(); T.logit(li)
    T.logit_(x.sigmoid() * 1); (x.sigmoid() * 1).logit_(0.3); T.erfinv(x.tanh())
    T.erfinv(T.tensor([0.0, 1.0, -1.0, 2.0, np.nan, 0.999999, 1e-30])); (x / 10).erfinv_(); T.erfinv(x.float().tanh())
    T.float_power(x.abs(), 2.5); T.float_power(2, x); T.float_power(li, 2); T.float_power(x.abs(), li[0, :3])
    T.float_power(li + 1, -1); (x * 1).float_power_(2); x.float().float_power_(2); x.abs().float_power(w); T.fill(x, 2)
    T.fill(li, 2.5); T.fill(x, s); T.fill(x, v); T.fill(m, 2); T.fill_(x * 1, 3); T.zero_(x * 1); T.clamp_(x * 1, 0, 1)
    T.clamp_min_(x * 1, 0.0); T.clamp_max_(x * 1, max=0.5); T.clip_(x * 1, -1, 1); T.round_(x * 1)
    T.nan_to_num_(T.tensor([np.nan, np.inf])); T.xlogy_(x * 1, s.abs()); (x * 1).less_(0); (x * 1).less_equal_(w)
    (x * 1).greater_(0); (x * 1).greater_equal_(0); (li * 1).not_equal_(2); T.isreal(x); T.nan_to_num_(x * 1)
    T.logit(x.detach())
"""

OF_NETWORKS = """
    T.batch_norm(x, v[:3], None, None, None, True, 0.1, 1e-5, False)
    T.batch_norm(x, v[:3], v[1:4], v[:3].detach(), v[1:4].detach() ** 2, False, 0.1, 1e-5, True)
    T.instance_norm(x, v[:3], None, None, None, True, 0.1, 1e-5, True); T.embedding(w, li); T.embedding(w, li, 1)
    T.embedding(w, li, padding_idx=-1); T.embedding(w, x); T.dropout(x, 0.0, True); T.dropout(x, 0.5, False)
    T.dropout(x, p=1.0, train=True); T.dropout(x, 2.0, True); T.dropout_(x * 1, 1.0, True)
    T.alpha_dropout(x, 0.5, False); T.feature_dropout(x, 1.0, True); T.feature_alpha_dropout_(x * 1, 0.5, False)
    T.binary_cross_entropy_with_logits(a, a.detach().sigmoid())
    T.binary_cross_entropy_with_logits(a, a.detach().sigmoid(), v[:3].detach(), v[1:4].abs().detach(), 0)
    T.binary_cross_entropy_with_logits(a, a.sigmoid(), reduction=2); T.kl_div(a, a.detach().exp())
    T.kl_div(a, a.detach(), 2, log_target=True); T.kl_div(a, a.detach().exp(), reduction=0)
    T.hinge_embedding_loss(a, a.detach().sign()); T.hinge_embedding_loss(a, a.detach().sign(), 0.5, 0)
    T.margin_ranking_loss(a, a * 2, a.detach().sign(), 0.1)
    T.margin_ranking_loss(a, a * 2, a.detach().sign(), reduction=2)
    T.cosine_embedding_loss(a, a * v[:3], T.tensor([1, -1]))
    T.cosine_embedding_loss(a, a * v[:3], T.tensor([1, -1]), 0.1, 0); T.triplet_margin_loss(a, a * 2, a * v[:3])
    T.triplet_margin_loss(a, a * 2, a * v[:3], 0.5, 1, 1e-6, True, 0)
    T.poisson_nll_loss(a, a.detach().abs(), True, False, 1e-8, 1)
    T.poisson_nll_loss(a.abs(), a.detach().abs() * 4, False, True, 1e-8, 0); T.constant_pad_nd(x, (1, 2))
    T.constant_pad_nd(x, (1, -1, 2, 0), 3.0); T.adaptive_max_pool1d(x, 2); T.rms_norm(x, (4,))
    T.rms_norm(x, [4], v[:4], 1e-3); T.hardshrink(x); T.hardshrink(x, 0.1); T.pixel_unshuffle(x[None, :, :2], 2)
    T.channel_shuffle(x.transpose(0, 1)[None], 3); F.channel_shuffle(x, 3); T.channel_shuffle(x, 2)
    T.channel_shuffle(a, 1); T.channel_shuffle(x, 0); T.channel_shuffle(x.reshape(1, 6, 4), 2)
    T.bilinear(a, a, x[:, :, :3].contiguous()); T.celu_(x * 1, 0.5); T.threshold_(x * 1, 0.1, 2.0); T.rrelu(x)
    T.rrelu_(x * 1, 0.1, 0.3); F.rrelu_(x * 1)
    T.ctc_loss(x.transpose(0, 1).log_softmax(-1), T.tensor([[1], [2]]), (3, 3), (1, 1)).detach()
    T.ctc_loss(x.transpose(0, 1).log_softmax(-1), T.tensor([[1], [2]]), (3, 2), (1, 1), 0, 2, True).detach()
    T.detach(x).requires_grad; T.detach_(x * 1).requires_grad
    T.is_anomaly_enabled(); F.pdist(w.detach(), 1.0); T.layer_norm(x, (4,)); T.group_norm(x, 3)
"""

CREATION = """
    T.zeros(2, 3).dtype; T.zeros((2, 3)).shape; T.zeros([2, 3]).shape; T.zeros(size=(2,)).shape; T.zeros(()).shape
    T.zeros().shape; T.zeros(-1); T.zeros(2.0); T.zeros(2, 'a'); T.zeros(torch.tensor(3)).shape
    T.zeros(2, dtype=int).dtype; T.zeros(2, dtype=float).dtype; T.full((2,), 3); T.full((2,), 3.0); T.full((2,), True)
    T.full(2, 1.0); T.full((2,), T.tensor(3)); T.full(size=(2,), fill_value=3, dtype=T.float64)
    T.full((2,), 3, requires_grad=True); T.full_like(T.zeros(2, dtype=T.int64), 2.7)
    T.zeros_like(T.zeros(2), dtype=T.int64); T.zeros_like([1]); T.arange(5); T.arange(5.0); T.arange(1, 5)
    T.arange(1, 5, 2); T.arange(0, 1, 0.25); T.arange(5, 1); T.arange(5, 1, -1); T.arange(0, 5, 0)
    T.arange(start=1, end=3); T.arange(end=3, dtype=T.float32); T.arange(True); T.arange(T.tensor(3))
    T.arange(T.tensor(3.0)); T.arange(1, 2.5); T.arange(0, 0.3, 0.1).shape; T.arange(5, 0)
    T.arange(3, requires_grad=True); T.arange(0, -1); T.arange(5, requires_grad=True, dtype=float); T.range(0, 3)
    T.range(1, 2, 0.5); T.linspace(0, 1, 5); T.linspace(0, 1, 1); T.linspace(0, 1, 0); T.linspace(0, 1, -1)
    T.linspace(0, 10, 5, dtype=T.int64); T.linspace(0, 1); T.linspace(3, -3, 4)
    T.linspace(T.tensor(1.0), T.tensor(2.0), 3); T.logspace(0, 2, 3); T.logspace(0, 2, 3, base=2)
    T.linspace(0, 1, 5, dtype=T.float64)[1].item(); T.linspace(start=0, end=1, steps=3)
    T.linspace(-1, 2, 7, dtype=T.int64); T.eye(2); T.eye(2, 3); T.eye(-1); T.eye(2, dtype=T.int64); T.eye(n=2, m=1)
    T.as_tensor([1, 2.0]); T.as_tensor(np.arange(2), dtype=T.float32); T.from_numpy([1])
    T.from_numpy(np.arange(3, dtype='>i4')); T.asarray([1, 2]); T.asarray(3.0); T.asarray(np.arange(2), copy=True)
    T.tensor([]); T.tensor([[1, 2], [3]]); T.tensor(None); T.tensor([1, None]); T.tensor([True, 2]); T.tensor([1, 2.5])
    T.tensor([T.tensor(1), T.tensor(2.0)]); T.tensor([np.float32(1), 2.0]); T.tensor([np.float64(1), 2.0])
    T.tensor(np.float64(1)); T.tensor(np.float32(1)); T.tensor([np.arange(2), np.arange(2)]); T.tensor(np.zeros(2))
    T.tensor(2 ** 40); T.tensor(2 ** 70); T.tensor([2 ** 70]); T.tensor(1, requires_grad=True)
    T.tensor([1.5], dtype=T.int64); T.tensor(300, dtype=T.uint8); T.tensor(-1, dtype=T.uint8); T.tensor(range(3))
    T.tensor({1: 2}); T.tensor({1, 2}); T.tensor((x for x in [1])); T.tensor([[]]).shape; T.tensor(T.tensor([1.0, 2.0]))
    T.tensor([1, 2], dtype=bool); T.tensor([np.int32(1), 2]).dtype; T.tensor([np.bool_(True)]).dtype; T.scalar_tensor(3)
    T.numel(T.zeros(2, 3)); T.numel(3); T.result_type(T.zeros(2, dtype=T.int64), 1.0)
    T.result_type(T.zeros((), dtype=T.float64), T.zeros(2)); T.result_type(1, 2.0); T.can_cast(T.float32, T.int64)
    T.can_cast(T.int64, T.float16); T.can_cast(T.float64, T.float32); T.can_cast(T.int64, T.bool)
    T.can_cast(T.int64, T.uint8); T.can_cast(T.int8, T.uint8); T.promote_types(T.int32, T.float16)
    T.promote_types(T.uint8, T.int8); T.is_floating_point(T.zeros(2)); T.iinfo(T.float32); T.FloatTensor(2, 3).shape
    T.FloatTensor([1, 2]); T.LongTensor([1.7, 2]); T.LongTensor([1, 2]); T.FloatTensor()
    T.FloatTensor(np.zeros(2, np.float32)); T.FloatTensor(np.zeros(2)); T.FloatTensor(3.0)
    T.FloatTensor(T.Size([2, 3])).shape; T.FloatTensor(T.zeros(2)); T.FloatTensor(T.zeros(2).double())
    T.Tensor(3).shape; T.Tensor(T.Size([2, 3])).shape; T.Tensor((2, 3)); T.Tensor(np.array(3.0)); T.ByteTensor([1, 300])
    T.BoolTensor([1, 0]); T.zeros(2).type(T.LongTensor); T.zeros(2).type(T.int32);
    T.zeros(2).type(T.zeros(2).long().type()); T.ones(2, dtype=T.bool).type().rpartition(".")[2]
    T.zeros(2).type("torch.DoubleTensor"); T.Tensor([[1, 2], [3, 4]]).dtype; T.ones(2).type('torch.Nothing')
    T.Tensor(range(3)); T.FloatTensor(2).fill_(1); T.zeros(2).new(3).shape; T.zeros(2).new([1, 2])
    T.zeros(2, dtype=T.long).new_tensor([1.5]); T.zeros(2, dtype=T.long).new_tensor(np.zeros(2))
    T.zeros(2).double().new_zeros(2, 3); T.zeros(2).new_zeros((2,), dtype=T.int64)
    T.zeros(2).long().new_full((2,), 1.5); T.zeros(2).new_ones(2, requires_grad=True); T.zeros(2).new_empty(2).shape
    T.tril_indices(3, 3); T.triu_indices(2, 3, 1, dtype=T.int32); T.tril_indices(3, 2, offset=-1)
    T.tensor(deque([1.0, 2.0]))
    T.tensor(deque([[1, 2], deque([3, 4])])); T.tensor(deque([T.tensor(1.0), T.tensor(2.0)])); T.tensor(deque()).shape
    T.broadcast_shapes((2, 1), (3,)); T.broadcast_shapes((2,), (3,)); T.empty_like(T.zeros(2)).shape
    T.hann_window(5); T.hann_window(5, False); T.hann_window(0); T.hann_window(1); T.hann_window(-1)
    T.hann_window(4, dtype=T.int64); T.hann_window(4, dtype=T.float64); T.hann_window(2.5); T.hann_window(True)
    T.hann_window(6, periodic=False, dtype=T.float64); T.hann_window(4, requires_grad=True); T.hamming_window(5)
    T.hamming_window(5, True, 0.5, 0.5); T.hamming_window(7, False, dtype=T.float64); T.blackman_window(5)
    T.blackman_window(6, False, dtype=T.float64); T.bartlett_window(5); T.bartlett_window(4, False, dtype=T.float64)
    T.bartlett_window(2, False); T.kaiser_window(5); T.kaiser_window(5, False, 3.0)
    T.kaiser_window(9, dtype=T.float64); T.kaiser_window(1); T.kaiser_window(0); T.kaiser_window(1, False)
    T.hann_window(2); T.hann_window(2, False); T.hann_window(3, foo=1); T.is_signed(T.tensor(True))
    T.is_signed(T.zeros(1)); T.is_signed(T.tensor(1, dtype=T.uint8)); T.is_inference(T.zeros(1))
    T.zeros(1).is_inference(); T.is_nonzero(T.tensor([2])); T.is_nonzero(T.zeros(2)); T.tensor(0.0).is_nonzero()
    T.is_nonzero(T.zeros(0)); T.is_same_size(T.zeros(2), T.zeros(3)); T.zeros(2).is_same_size(T.ones(2))
    T.isreal(T.arange(3)); T.get_device(T.zeros(1, device='cpu')); T.hann_window(8).stride()


    T.detach(x * 2); T.detach(2.0)
"""

# Each sets ``out`` from the leaves x and w, of shape (3, 4), by changing things in place.
# Plain numbers, and CPU tensors without dimensions: they go with tensors on any device.
NUMBERS = """
    T.where(x > 0, 1.0, 0.0); T.where(x > 0, 1, 2.5); T.where(x > 0, True, False); T.where(x > 0, 1, x)
    x * np.float64(2); np.float64(2) * x.float(); x.float() ** np.float32(2); li * np.float64(2.5); li + np.int64(2)
    li * np.float32(0.5); x.float().clamp(np.float64(0), np.float64(1)); x.float().masked_fill(x > 0, np.float64(3))
    T.pow(2, x); 2 ** li; T.pow(2.5, li); T.xlogy(2, abs(x)); T.remainder(2, li + 1); T.bitwise_and(2, li)
    T.bitwise_left_shift(1, li); 3 // x.detach(); T.where(x > 0, x.float(), np.float64(2))
    T.add(x.float(), 1, alpha=np.float64(2)); (x * 0 + 0.3).half() == 0.3; 3 % x.detach(); x * cpu(2.0); cpu(2.0) - x
    x / T.sqrt(cpu(4)); x.float() == cpu(0.5); T.maximum(x, cpu(0.1, dtype=T.float64)); T.where(x > 0, x, cpu(0.0))
    T.where(x > 0, cpu(1.0), cpu(0.0)); T.where(x > 0, cpu(1.0), 2); x.clamp(min=cpu(0.1))
    T.lerp(x, x * 2, cpu(0.5, dtype=T.float64)); T.addcmul(x, x, cpu(0.5, dtype=T.float64)); x.pow(cpu(2))
    li - cpu(2.5); T.pow(cpu(2.0), x); x.masked_fill(x > 0, cpu(5.0)); li + cpu(2); li * cpu(2.5, dtype=T.float64)
    li & cpu(6); s.float() * cpu(0.3, dtype=T.float64); cpu(0.0) + x.sum(); (x * cpu(2.0)).exp().sum()
    put(x, 0, cpu(7.0)); x.detach().clone().fill_(cpu(5.0)); x + cpu(1.0, requires_grad=True)
    T.heaviside(x.detach() * 0, cpu(0.5, dtype=T.float64)); x.half() < cpu(0.3); li // cpu(2); T.hypot(x, cpu(1.0))
    x.atan2(cpu(2.0)); T.isclose(x, cpu(1.0, dtype=T.float64))
"""

IN_PLACE = [
    "y = x * 1; v = y[0]; v.mul_(2); out = (y, v)",
    "y = x * 1; v = y[0]; y.mul_(3); out = (v * v, y)",
    "y = x * 1; v = y[0]; y.mul_(w[0, 0]); out = v.sum() + y.sum()",
    "y = x * 1; y[0] += w[1]; out = y * y",
    "y = x * 1; y[0] = w[1]; y[1] = y[0] * 2; out = y * y",
    "y = x * 1; v = y[1:]; u = v[0]; u.add_(w[0]); v.mul_(2); out = y * u",
    "y = x * 1; v = y.t(); u = v[1]; u.mul_(w[:, 0]); out = v.sum() * 2 + y * 3",
    "y = x * 1; v = y.view(-1); v[2:5] = w.reshape(-1)[:3]; out = y * y",
    """
    buf = T.zeros(3, 4, dtype=T.float64)
    for i in range(3):
        buf[i] = x[i] * w[i].sum()
    out = buf * buf
    """,
    "b = T.zeros(3, 4, dtype=T.float64); v = b[0]; b.add_(w); out = v * v",
    "b = T.zeros(3, 4, dtype=T.float64); v = b[0]; u = b[0:2]; z = v[1:]; u.add_(w[:2]); out = (v * v, z * 3, b.sum())",
    "y = x * 1; y[y > 0] = 0.0; out = y * w",
    "y = x * 1; y[y > 0] = w[0, 0]; out = y * w",
    "v = x[0]; v.mul_(2); out = v",
    "x.mul_(2); out = x",
    "x[0] = 1; out = x",
    """
    with T.no_grad():
        x[0] = 1.0
        x.mul_(2)
    out = x * w
    """,
    "y = x * 1; z = y * w; y.add_(1); out = z",
    "y = x * 1; z = y[0] * w[0]; y.add_(1); out = z",
    "y = x * 1; z = y * w; y.detach().zero_(); out = z",
    "y = x * 1; z = y * w; y.data.mul_(2); out = z",
    "y = x.exp(); y.add_(1); out = y",
    "y = x + w; y.mul_(2); out = y",
    "y = x * 1; y.relu_(); out = y * w",
    "y = x * 1; y[1] = y[0]; y[0] = y[1] * 2; out = y * w",
    "y = x * 1; a, b, c = y.unbind(0); out = a * b + c",
    "y = T.zeros(3, 4, dtype=T.float64); y.copy_(x[0]); out = y * w",
    "y = (x[:, :1] * 1).expand(3, 4); y.mul_(2); out = y",
    "b = x[:, :1] * 1; y = b.expand(3, 4); b.mul_(w[:, :1]); out = y * y",
    "y = x * 1; y.t_(); y[0] = w[:, 0]; out = y * 2",
    "y = x * 1; v = y[0]; v.unsqueeze_(0); v.mul_(w[:1]); out = y * v",
    "y = x * 1; y.unsqueeze_(0); v = y[0]; v.unsqueeze_(0); y.mul_(2); v.mul_(w); out = y * v",
    """
    with T.no_grad():
        v = x.t()
    v[0].mul_(2)
    out = x
    """,
    """
    y = x * 1
    v = y[0]
    y[y > 0] = 0.1
    with T.no_grad():
        v[1] += 1
    out = v * v
    """,
    """
    y = x * 1
    v = y[:1]
    with T.no_grad():
        v.t_()
    out = v * w[:1].t()
    """,
    """
    with T.no_grad():
        x.unsqueeze_(0)
        x.exp_()
        x.squeeze_(0)
    out = x * w
    """,
    "y = x * 1; y.unsqueeze_(0); y.detach_(); out = y * w",
    "y = x * 1; v = y[0]; y.squeeze_(); v.mul_(2); out = y * w",
    "y = x * 1; y.diagonal().mul_(w.diagonal()); out = y",
    "y = x * 1; y.diagonal().fill_(0.0); out = y * y",
    "y = x * 1; y.zero_(); y.add_(w); out = y",
    """
    y = x * 1
    with T.no_grad():
        v = y[0]
    v.mul_(2)
    out = y
    """,
    """
    b = T.zeros(3, 4, dtype=T.float64)
    v = b[0]
    b.add_(w)
    out = (v * 1, T.tensor([float(v.requires_grad), float(v.is_leaf), float(b.requires_grad)]))
    """,
    "y = x * 1; v = y.unfold(1, 2, 2); v.mul_(2); out = y * w",
    "y = x * 1; v = y.unfold(1, 2, 1); y.mul_(w); out = v * v",
    "y = x * 1; v = y.as_strided((2, 2), (4, 1), 1); v.mul_(w[:2, :2]); out = y * y",
    "y = x * 1; y.narrow(1, 1, 2).add_(w[:, :2]); out = y * y",
    "y = x * 1; y.squeeze_(); y.unsqueeze_(1); y[:, 0] = w; out = y * y",
    "y = x * 1; a = y[0]; b = y[1]; a.mul_(b); b.mul_(a); out = y * w",
    """
    y = x * 1
    y[None, 0] = w[:1]
    y[..., 1] = w[:, 2]
    y[:, [0, 2]] = w[:, [2, 0]]
    y[0, [1, 3]] = w[1, [0, 0]]
    out = y * y
    """,
    "y = x * 1; y[T.tensor([True, False, True])] = w[:2]; y[T.tensor([True, False, True]), 1] *= 2; out = y * y",
    "y = x * 1; y[0] += y[1]; y[1] += y[0]; y[:, 0] *= y[:, 1]; out = y * w",
    "y = x * 1; v = y[0]; a = v._version; y.add_(1); out = T.tensor([float(a), float(v._version), float(y._version)])",
    "y = x * 1; d = y.detach()[0]; d.mul_(2); out = y * w",
    "y = x * 1; f = y.flip(0); f.mul_(2); out = (y * w, f)",
    "y = x * 1; y.gt_(0); out = y * w",
    "y = x * 1; v = y[0]; v.less_(w[0]); out = y * w",
    "y = T.zeros(3, 4, dtype=T.float64); y.eq_(w); out = y * x",
    "y = x * 1; y.fill_diagonal_(2.0); out = y * w",
    "y = (x * w).t().contiguous(); y.fill_diagonal_(3.0, wrap=True); out = y * y",
    "y = x * 1; y.renorm_(2, 0, 0.5); out = y * w",
    "y = x * 1; y.float_power_(2); out = y * w",
    "y = x * 1; y.addmm_(w, w.t() @ w); out = y * y",
    "y = x * 1; y.real.mul_(2); out = y * w",
    "m = x > 0; m[0] = False; out = m.to(T.float64)",
    "y = x * 1; c = y.contiguous(); c.mul_(2); out = y * w",
    "y = x * 1; r = y.t().reshape(-1); r.mul_(2); out = (y * w, r)",
]


def expressions(text):
    return [part.strip() for line in text.strip().splitlines() for part in line.split(";") if part.strip()]


def distances(x1, x2, *args, **kwargs):
    """What cdist gives without a history: PyTorch cannot differentiate it twice."""
    T = torch if isinstance(x1, torch.Tensor) else gg
    return T.cdist(x1.detach(), x2.detach(), *args, **kwargs)


def put(x, index, value):
    y = x * 1
    y[index] = value
    return y


def flatten(value):
    return [x for item in value for x in flatten(item)] if isinstance(value, tuple | list) else [value]


def is_tensor(value):
    return isinstance(value, gg.Tensor | torch.Tensor)


def plain(value):
    """A result in terms that both libraries share."""
    if is_tensor(value):
        return value.detach().cpu().numpy()
    if isinstance(value, torch.dtype | np.dtype):
        return str(value).removeprefix("torch.")
    return tuple(value) if isinstance(value, torch.Size | gg.Size) else value


def evaluate(T, expression, inputs):
    """The results, with dtypes, and their first and second gradients; or the name of the error."""
    values = {name: T.tensor(array) for name, array in inputs.items()}
    leaves = [t.requires_grad_() for t in values.values() if t.is_floating_point()]
    functional = torch.nn.functional if T is torch else gg.nn.functional
    try:
        names = {
            "T": T,
            "F": functional,
            "np": np,
            "deque": deque,
            "put": put,
            "distances": distances,
            "m": None,
            "cpu": partial(T.tensor, device="cpu"),
        }
        found = flatten(eval(expression, {**names, **values}))
    except Exception as error:
        # PyTorch's own LinAlgError has a private name.
        return type(error).__name__.lstrip("_"), [], []
    outs = [
        (plain(out), str(out.dtype).removeprefix("torch.") if is_tensor(out) else type(out).__name__) for out in found
    ]
    ends = [out for out in found if is_tensor(out) and out.requires_grad]
    if not ends or not leaves:
        return outs, [], []

    def weights(tensors, seed):
        random = np.random.default_rng(seed)
        arrays = [random.standard_normal(tuple(t.shape)).astype(str(t.dtype).removeprefix("torch.")) for t in tensors]
        return [T.tensor(array).requires_grad_() for array in arrays]

    starts = weights(ends, 1)
    first = T.autograd.grad(ends, leaves, starts, create_graph=True, allow_unused=True)
    again = [g for g in first if g is not None and g.requires_grad]
    second = T.autograd.grad(again, leaves + starts, weights(again, 2), allow_unused=True) if again else []
    return outs, [None if g is None else plain(g) for g in first], [None if g is None else plain(g) for g in second]


def same(mine, theirs, tolerance=1e-7):
    if isinstance(mine, np.ndarray):
        np.testing.assert_allclose(mine, theirs, tolerance, tolerance)
    else:
        assert mine == theirs


@pytest.mark.parametrize("kind", ACCELERATED)
def test_functions_run_on_the_device_of_their_tensors(kind):
    if gg.cuda.device_count() < 2:
        pytest.skip("needs two CUDA devices")
    with gg.device(f"{kind}:1"):
        x = gg.tensor(INPUTS["x"]).requires_grad_()
        v = gg.tensor(INPUTS["v"])
    assert gg.cuda.current_device() == 0
    y = (x * 2).tril_()
    y[gg.tensor([1], device=x.device)] = 3.0
    y.clamp_(min=-1)
    found = [
        y.quantile(0.3),
        gg.isin(2, y),
        gg.bucketize(1, v.sort()[0]),
        gg.linalg.matrix_rank(gg.diag(v)),
        y.take(v.argsort()),
    ]
    found += [gg.nn.functional.pad(y, (1, 2), mode="reflect").repeat_interleave(2, 0)]
    assert all(each.device == x.device for each in found)
    sum((each.float() ** 2).sum() for each in found).backward()
    twin = gg.tensor(INPUTS["x"]).requires_grad_()
    y = (twin * 2).tril()
    y = gg.stack([y[0], gg.full_like(y[0], 3.0)]).clamp(min=-1)
    w = gg.tensor(INPUTS["v"])
    expected = [y.quantile(0.3), gg.isin(2, y), gg.bucketize(1, w.sort()[0]), gg.tensor(5), y.take(w.argsort())]
    expected += [gg.nn.functional.pad(y, (1, 2), mode="reflect").repeat_interleave(2, 0)]
    sum((each.float() ** 2).sum() for each in expected).backward()
    for a, b in zip([*found, x.grad], [*expected, twin.grad], strict=True):
        close(a, plain(b), 1e-6, 1e-6)


# What is wrong here would be seen on a device only by waiting for it.
NOT_SEEN_ON_CUDA = set(
    expressions("""
    x[T.tensor([5])]; x[T.tensor([-3])]; x.gather(0, li[:, :3]); x.gather(0, T.full((1, 1, 1), 5))
    x.gather(0, T.full((1, 1, 1), -1)); x.index_select(0, T.tensor([5])); x.index_select(0, T.tensor([-1]))
    v.scatter(0, T.tensor([0, 5]), 5); v.index_add(0, T.tensor([0, 5]), v[:2]); v.index_add(0, T.tensor([0, -1]), v[:2])
    x.take(T.tensor([25])); put(x, T.tensor([5]), 1); x.index_copy(0, T.tensor([0, 5]), x)
    x.index_fill(0, T.tensor([0, 9]), 1); x.index_put((T.tensor([9]),), s); v.put(T.tensor([1, 7]), v[:2])
    """)
)


def compare(expression, inputs, device):
    if device != "cpu" and expression in NOT_SEEN_ON_CUDA:
        pytest.skip("a device is not waited for")
    with gg.device(device):
        mine = evaluate(gg, expression, inputs)
    theirs = evaluate(torch, expression, inputs)
    if isinstance(theirs[0], str) or isinstance(mine[0], str):
        assert mine[0] == theirs[0]
        return
    assert len(mine[0]) == len(theirs[0])
    for (value, kind), (expected, expected_kind) in zip(mine[0], theirs[0], strict=True):
        if is_tensor(expected) or isinstance(value, np.ndarray):
            assert kind == expected_kind
        tolerance = 1e-5 if kind == "float32" else 1e-7
        same(value, expected, tolerance)
    for ours, others in zip(mine[1:], theirs[1:], strict=True):
        # No gradient is as good as one of zeros.
        ours, others = (
            [g if g is not None and np.any(abs(g) > 1e-12) else None for g in gradients] for gradients in (ours, others)
        )
        if any(g is not None for g in (*ours, *others)):
            assert len(ours) == len(others)
            for g, expected in zip(ours, others, strict=True):
                assert (g is None) == (expected is None)
                if g is not None:
                    same(g, expected, 1e-4 if expected.dtype == np.float32 else 1e-6)


@pytest.mark.parametrize("expression", expressions(SHAPES))
def test_shapes(expression, device):
    compare(expression, INPUTS, device)


@pytest.mark.parametrize("expression", expressions(INDEXING))
def test_indexing(expression, device):
    compare(expression, INPUTS, device)


@pytest.mark.parametrize("expression", expressions(PRODUCTS_AND_LINEAR_ALGEBRA))
def test_products_and_linear_algebra(expression, device):
    compare(expression, MATRICES, device)


NAN = np.array([[1.5, 0.5, np.nan, 2.5], [0.3, 1.7, 3.0, 0.0], [np.nan] * 4])
RANKS = {"q": np.array([0.0, 0.2, 0.55, 1.0]), "edges": np.array([-1.0, 0.0, 0.3, 2.0]), "n": NAN}


@pytest.mark.parametrize("expression", expressions(STATISTICS))
def test_statistics(expression, device):
    compare(expression, {**INPUTS, **RANKS}, device)


@pytest.mark.parametrize("rows", [3, 30])
def test_distances_can_be_differentiated_twice_and_have_no_gradient_at_zero(rows, device):
    x = gg.tensor(draw.standard_normal((rows, 3)), device=device).requires_grad_()
    y = gg.tensor(draw.standard_normal((4, 3)), device=device).requires_grad_()
    found = []
    for out in (gg.cdist(x, y), ((x.unsqueeze(1) - y) ** 2).sum(-1).sqrt()):
        first = gg.autograd.grad((out**3).sum(), (x, y), create_graph=True)
        found.append([out, *first, *gg.autograd.grad(sum((g**2).sum() for g in first), (x, y))])
    for mine, expected in zip(*found, strict=True):
        close(mine, expected, 1e-7, 1e-7)
    twice = gg.cat([x, x])
    mode = "donot_use_mm_for_euclid_dist" if rows < 25 else "use_mm_for_euclid_dist"
    (grad,) = gg.autograd.grad(gg.cdist(twice, twice * 1, compute_mode=mode).sum(), x)
    assert bool(gg.isfinite(grad).all())


@pytest.mark.parametrize("p", [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, np.inf])
@pytest.mark.parametrize("rows", [4, 40])
def test_gradients_of_distances_are_those_of_pytorch_at_zeros_and_ties_too(p, rows, device):
    random = np.random.default_rng(1)
    array = random.integers(-2, 3, (2, rows, 3)) / 2.0
    start = random.standard_normal((2, rows, rows))
    found = []
    for T, where in ((gg, device), (torch, "cpu")):
        x, y = (T.tensor(each, device=where).requires_grad_() for each in (array, array[:1, ::-1].copy()))
        out = T.cdist(x, y, p, compute_mode="donot_use_mm_for_euclid_dist")
        pairs = T.pdist(y[0], p)
        weights = T.tensor(start, device=where)
        found.append([out, pairs, *T.autograd.grad((out * weights).sum() + (pairs**2).sum(), (x, y))])
    for mine, expected in zip(*found, strict=True):
        close(mine, plain(expected), 1e-9, 1e-9)


def test_distances_of_many_rows_are_found_in_parts(device, monkeypatch):
    x, y = (gg.tensor(draw.standard_normal((n, 5)), device=device).requires_grad_() for n in (13, 7))
    whole = gg.cdist(x, y, 1.5)
    expected = gg.autograd.grad((whole**2).sum(), (x, y))
    monkeypatch.setattr(gg.ops.distance, "_rows_at_once", lambda *shape: 4)
    parts = gg.cdist(x, y, 1.5)
    close(parts, whole, 1e-12, 1e-12)
    close(list(gg.autograd.grad((parts**2).sum(), (x, y))), list(expected), 1e-12, 1e-12)


@pytest.mark.parametrize("expression", expressions(WRITTEN))
def test_results_written_to_given_tensors_and_old_orders_of_arguments(expression, device):
    array = np.arange(6.0).reshape(2, 3) - 2.5
    inputs = {
        "a": array,
        "w": array.T,
        "m2": array > 0,
        "target": np.zeros((2, 3)),
        "small": np.zeros((2, 1), np.float32),
    }
    with gg.no_grad(), torch.no_grad():
        compare(re.sub("(target|small)", r"\1.detach()", expression), inputs, device)


def test_results_with_a_history_are_not_written_to_given_tensors():
    x, out = gg.ones(2, requires_grad=True), gg.zeros(2)
    for call in (lambda: gg.add(x, 1, out=out), lambda: gg.add(out, 1, out=x), lambda: gg.stack([x, x], out=out)):
        with pytest.raises(RuntimeError, match="don't support automatic differentiation"):
            call()
    with pytest.raises(TypeError, match="out must be a tensor, but got 3"):
        gg.add(out, 1, out=3)
    with pytest.raises(TypeError, match="out must be 2 tensors"):
        gg.max(gg.ones(2, 2), 1, out=(out,))
    with pytest.warns(UserWarning, match=r"of shape \(2,\), is resized to \(3,\)"):
        gg.exp(gg.zeros(3), out=out)
    assert out.tolist() == [1, 1, 1]
    assert gg.add(out, 1, out=out) is out


@pytest.mark.parametrize("expression", expressions(ELEMENTWISE))
def test_elementwise_functions(expression, device):
    compare(expression, INPUTS, device)


@pytest.mark.parametrize("expression", expressions(OF_NETWORKS))
def test_functions_of_networks_under_the_names_and_arguments_of_the_top_level(expression, device):
    compare(expression, INPUTS, device)


@pytest.mark.parametrize("expression", expressions(CREATION))
def test_creation(expression, device):
    compare(expression, {}, device)


@pytest.mark.parametrize("expression", expressions(NUMBERS))
def test_numbers(expression, device):
    compare(expression, INPUTS, device)


@pytest.mark.parametrize("code", [inspect.cleandoc(code) for code in IN_PLACE])
def test_changes_in_place_reach_every_history(code, device):
    results = []
    for T, where in ((gg, device), (torch, "cpu")):
        draw = np.random.default_rng(5)
        x, w = (T.tensor(draw.standard_normal((3, 4)), device=where).requires_grad_() for _ in range(2))
        scope = {"T": T, "x": x, "w": w}
        try:
            with T.device(where):
                exec(code, scope)
            outs = flatten(scope["out"])
            wanted = [out for out in outs if out.requires_grad]
            if wanted:
                sum((out * (k + 1)).sum() for k, out in enumerate(wanted)).backward()
        except RuntimeError:
            results.append("RuntimeError")
            continue
        zeros = np.zeros((3, 4))
        results.append([plain(t) for t in outs] + [zeros if t.grad is None else plain(t.grad) for t in (x, w)])
    mine, theirs = results
    assert len(mine) == len(theirs)
    for a, b in zip(mine, theirs, strict=True):
        same(a, b)


PRINTED = [
    np.array(3.0),
    np.array(3),
    np.array(True),
    np.array(np.nan),
    np.zeros(0),
    np.zeros((0, 3), np.float32),
    np.zeros((2, 0), np.int64),
    np.zeros(0, bool),
    draw.standard_normal((2, 3)),
    draw.standard_normal(50).astype(np.float32),
    draw.standard_normal((40, 50)),
    draw.standard_normal((3, 4, 5)),
    draw.standard_normal((2, 2, 2, 2)),
    draw.integers(-100, 1000, (4, 6)),
    draw.integers(0, 2, (3, 4)).astype(bool),
    np.array([1.0, 2000.0]),
    np.array([1e-5, 1.0]),
    np.array([1e-5]),
    np.array([1e9]),
    np.array([0.0, -0.0]),
    np.array([np.nan, np.inf, -np.inf]),
    np.array([np.nan, 1.5, -np.inf, 1e5]),
    np.array([65504.0, 1.5], np.float16),
    np.array([255, 0], np.uint8),
    np.arange(2000),
    np.arange(1001).reshape(7, 11, 13),
]


@pytest.mark.parametrize("array", PRINTED, ids=lambda a: f"{a.dtype}-{a.shape}")
@pytest.mark.parametrize(
    "options", [{}, {"precision": 2}, {"sci_mode": True}, {"threshold": 10, "edgeitems": 2}], ids=str
)
def test_text_is_that_of_pytorch(array, options):
    texts = []
    for T in (gg, torch):
        # Wide enough for the longer of the two names of a dtype.
        T.set_printoptions(linewidth=100, **options)
        try:
            texts.append(repr(T.tensor(array)).replace("gpugrad.", "torch.").replace(",\n       dtype", ", dtype"))
        finally:
            T.set_printoptions(profile="default")
    assert texts[0] == texts[1]
