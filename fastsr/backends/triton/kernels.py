"""The Triton kernels: convolution, chain of convolutions, pointwise steps, resize.

Images are (H, W, C) with the channels innermost. A value of C channels has a pitch (elements from pixel to pixel)
of at least C; the elements between are zero. Rows of a GEMM are pixels, row by row; its columns are output
channels, padded to powers of two in registers only. Loops over taps are rolled: unrolled ones spill.

Steps are tuples of names with tuples of arguments beside them: for "relu", "sigmoid", "tanh" and "round" nothing; for
"prelu", "affine" and "clip" the index of their first vector (K,) behind the bias; for "add" and "mul" the index of
their operand, whose pitch is in PITCHES; for "add_after" and "mul_after" the same, read where the result is stored,
behind a pixel shuffle.

Pixel shuffle is fused into the store: output channels are ordered (dy, dx, c), so that neighbours in registers are
neighbours in memory.

ARITHMETIC is "tf32" (of float32 operands), "int8" (sums in int32), "ieee" (all others), or "upcast" for bfloat16 in
the interpreter, which multiplies that wrongly; "round_e4m3" is for the interpreter too, which rounds to fp8 wrongly.
What integers and fp8 need before and after a sum are steps (quantize.py).
"""

import triton
import triton.language as tl


@triton.jit
def _dot(a, b, acc, ARITHMETIC: tl.constexpr):
    if ARITHMETIC == "int8":
        acc = tl.dot(a, b, acc, out_dtype=tl.int32)
    elif ARITHMETIC == "upcast":
        acc = tl.dot(a.to(tl.float32), b.to(tl.float32), acc, input_precision="ieee")
    elif ARITHMETIC == "tf32":
        # The instruction cuts bits off; rounding to nearest halves the error and removes its bias. b comes rounded.
        a = ((a.to(tl.int32, bitcast=True) + 0x1000) & -0x2000).to(tl.float32, bitcast=True)
        acc = tl.dot(a, b, acc, input_precision="tf32")
    else:
        acc = tl.dot(a, b, acc, input_precision="ieee")
    return acc


@triton.jit
def _bias(v_ptr, co, BM: tl.constexpr, BN: tl.constexpr, ARITHMETIC: tl.constexpr):
    """Begin a sum; that of integers gets its bias in a step."""
    if ARITHMETIC == "int8":
        acc = tl.zeros((BM, BN), dtype=tl.int32)
    else:
        acc = tl.zeros((BM, BN), dtype=tl.float32) + tl.load(v_ptr + co)[None, :]
    return acc


@triton.jit
def _load(pointers, ok, in_scale, in_offset, IMAGE_IN: tl.constexpr):
    """Load where ok, 0 elsewhere; pixels of the caller become network values."""
    x = tl.load(pointers, mask=ok, other=0.0)
    if IMAGE_IN:
        x = tl.where(ok, x.to(tl.float32) * in_scale + in_offset, 0.0)
    return x


@triton.jit
def _steps(
    acc,
    v_ptr,
    co,
    pixel,
    channel,
    pixel_after,
    channel_after,
    ok,
    o0_ptr,
    o1_ptr,
    o2_ptr,
    STEPS: tl.constexpr,
    ARGUMENTS: tl.constexpr,
    PITCHES: tl.constexpr,
    BEGIN: tl.constexpr,
    END: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """Apply steps BEGIN <= i < END. Comparisons are such that NaN stays NaN: it must reach the check at the end.

    pixel, channel: where acc's elements are in an operand; pixel_after, channel_after: the same behind the shuffle.
    """
    for i in tl.static_range(BEGIN, END):
        v = v_ptr + ARGUMENTS[i] * WIDTH + co
        if STEPS[i] == "relu":
            acc = tl.where(acc < 0, 0.0, acc)
        elif STEPS[i] == "round":
            acc = (acc + 12582912.0) - 12582912.0  # 1.5 * 2^23: rounds to the nearest, halves to even
        elif STEPS[i] == "round_e4m3":
            bits = acc.to(tl.int32, bitcast=True)
            bits = (bits + 0x7FFFF + ((bits >> 20) & 1)) & -0x100000  # 3 bits behind the leading one
            small = (acc + 24576.0) - 24576.0  # 1.5 * 2^14: below 2^-6 the steps are of 2^-9
            acc = tl.where(tl.abs(acc) < 0.015625, small, bits.to(tl.float32, bitcast=True))
        elif STEPS[i] == "prelu":
            acc = tl.where(acc >= 0, acc, acc * tl.load(v)[None, :])
        elif STEPS[i] == "sigmoid":
            acc = 1.0 / (1.0 + tl.exp(-acc))
        elif STEPS[i] == "tanh":
            e = tl.exp(-2.0 * tl.abs(acc))
            t = (1.0 - e) / (1.0 + e)
            acc = tl.where(acc < 0, -t, t)
        elif STEPS[i] == "affine":
            acc = acc * tl.load(v)[None, :] + tl.load(v + WIDTH)[None, :]
        elif STEPS[i] == "clip":
            low = tl.load(v)[None, :]
            high = tl.load(v + WIDTH)[None, :]
            acc = tl.where(acc < low, low, tl.where(acc > high, high, acc))
        else:
            if ARGUMENTS[i] == 0:
                o_ptr = o0_ptr
            elif ARGUMENTS[i] == 1:
                o_ptr = o1_ptr
            else:
                o_ptr = o2_ptr
            if STEPS[i] == "add_after" or STEPS[i] == "mul_after":
                pointers = o_ptr + pixel_after * PITCHES[ARGUMENTS[i]] + channel_after
            else:
                pointers = o_ptr + pixel * PITCHES[ARGUMENTS[i]] + channel
            o = tl.load(pointers, mask=ok, other=0.0).to(tl.float32)
            if STEPS[i] == "add" or STEPS[i] == "add_after":
                acc += o
            else:
                acc *= o
    return acc


@triton.jit
def _finish(
    acc,
    m,
    co,
    y_ptr,
    v_ptr,
    o0_ptr,
    o1_ptr,
    o2_ptr,
    flag_ptr,
    H,
    W,
    y_row,
    y_column,
    y_channel,
    top,
    left,
    rows,
    columns,
    out_scale,
    out_offset,
    low,
    high,
    K: tl.constexpr,
    WIDTH: tl.constexpr,
    PITCHES: tl.constexpr,
    FACTOR: tl.constexpr,
    Y_PITCH: tl.constexpr,
    Y_FIRST: tl.constexpr,
    FILL: tl.constexpr,
    STEPS: tl.constexpr,
    ARGUMENTS: tl.constexpr,
    IMAGE_OUT: tl.constexpr,
    ROUND: tl.constexpr,
):
    """Apply the steps to acc (pixels m, channels co of an H x W value) and store it, shuffled, as value or pixels."""
    C: tl.constexpr = K // (FACTOR * FACTOR)
    oy = m // W
    ox = m % W
    if FACTOR > 1:
        c = co % C
        y = (oy * FACTOR)[:, None] + (co // C // FACTOR)[None, :]
        x = (ox * FACTOR)[:, None] + (co // C % FACTOR)[None, :]
        source = c * (FACTOR * FACTOR) + co // C
    else:
        c = co
        y = oy[:, None]
        x = ox[:, None]
        source = co
    ok = (m < H * W)[:, None] & (co < K)[None, :]
    after = y * (W * FACTOR) + x
    acc = _steps(
        acc,
        v_ptr,
        co,
        m[:, None],
        source[None, :],
        after,
        c[None, :],
        ok,
        o0_ptr,
        o1_ptr,
        o2_ptr,
        STEPS,
        ARGUMENTS,
        PITCHES,
        0,
        len(STEPS),
        WIDTH,
    )
    if IMAGE_OUT:
        py = y - top
        px = x - left
        ok = ok & (py >= 0) & (py < rows) & (px >= 0) & (px < columns)
        bad = tl.max(tl.max(tl.where(ok & ~(tl.abs(acc) <= 3.4028234e38), 1, 0), axis=1), axis=0)
        tl.atomic_max(flag_ptr, bad, mask=bad > 0)
        acc = acc * out_scale + out_offset
        if ROUND:
            acc = tl.where(acc > low, acc, low)
            acc = tl.where(acc < high, acc, high)
            acc = (acc + 12582912.0) - 12582912.0  # as "round"
            acc = acc.to(tl.int32)
        tl.store(y_ptr + py * y_row + px * y_column + c[None, :] * y_channel, acc.to(y_ptr.dtype.element_ty), mask=ok)
    else:
        if FILL > K:
            acc = tl.where((co < K)[None, :], acc, 0.0)
            ok = (m < H * W)[:, None] & (co < FILL)[None, :]
        tl.store(y_ptr + Y_FIRST + after * Y_PITCH + c[None, :], acc.to(y_ptr.dtype.element_ty), mask=ok)


@triton.jit
def conv(
    x_ptr,
    w_ptr,
    v_ptr,
    y_ptr,
    o0_ptr,
    o1_ptr,
    o2_ptr,
    flag_ptr,
    H,
    W,
    x_row,
    x_column,
    x_channel,
    in_scale,
    in_offset,
    y_row,
    y_column,
    y_channel,
    top,
    left,
    rows,
    columns,
    out_scale,
    out_offset,
    low,
    high,
    C: tl.constexpr,
    K: tl.constexpr,
    WIDTH: tl.constexpr,
    KH: tl.constexpr,
    KW: tl.constexpr,
    PITCHES: tl.constexpr,
    FACTOR: tl.constexpr,
    Y_PITCH: tl.constexpr,
    Y_FIRST: tl.constexpr,
    FILL: tl.constexpr,
    STEPS: tl.constexpr,
    ARGUMENTS: tl.constexpr,
    IMAGE_IN: tl.constexpr,
    IMAGE_OUT: tl.constexpr,
    ROUND: tl.constexpr,
    ARITHMETIC: tl.constexpr,
    FLAT: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
):
    """Convolve x (H, W, C) with w (rows, WIDTH), add the bias, apply steps, store K channels. Grid: (pixels, channels).

    v holds the bias, then the steps' vectors, WIDTH each. C is what a pixel of x holds, padding included.
    FLAT: rows of w are (tap, c), cut into blocks of BK; otherwise each tap's channels are, padded to BK.
    """
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    co = tl.program_id(1) * BN + tl.arange(0, BN)
    k = tl.arange(0, BK)
    oy = m // W
    ox = m % W
    inside = m < H * W
    BLOCKS: tl.constexpr = (C + BK - 1) // BK
    LENGTH: tl.constexpr = (KH * KW * C + BK - 1) // BK if FLAT else KH * KW * BLOCKS
    acc = _bias(v_ptr, co, BM, BN, ARITHMETIC)
    for t in range(LENGTH):
        if FLAT:
            tap = (t * BK + k) // C
            c = (t * BK + k) % C
            iy = oy[:, None] + (tap // KW - KH // 2)[None, :]
            ix = ox[:, None] + (tap % KW - KW // 2)[None, :]
            ok = inside[:, None] & (iy >= 0) & (iy < H) & (ix >= 0) & (ix < W) & (tap < KH * KW)[None, :]
        else:
            tap = t // BLOCKS
            c = (t % BLOCKS) * BK + k
            py = oy + (tap // KW - KH // 2)
            px = ox + (tap % KW - KW // 2)
            iy = py[:, None]
            ix = px[:, None]
            ok = (inside & (py >= 0) & (py < H) & (px >= 0) & (px < W))[:, None] & (c < C)[None, :]
        if IMAGE_IN:
            pointers = x_ptr + iy * x_row + ix * x_column + c[None, :] * x_channel
        else:
            pointers = x_ptr + (iy * W + ix) * C + c[None, :]
        a = _load(pointers, ok, in_scale, in_offset, IMAGE_IN).to(w_ptr.dtype.element_ty)
        b = tl.load(w_ptr + (t * BK + k)[:, None] * WIDTH + co[None, :])
        acc = _dot(a, b, acc, ARITHMETIC)
    _finish(
        acc.to(tl.float32),
        m,
        co,
        y_ptr,
        v_ptr + WIDTH,
        o0_ptr,
        o1_ptr,
        o2_ptr,
        flag_ptr,
        H,
        W,
        y_row,
        y_column,
        y_channel,
        top,
        left,
        rows,
        columns,
        out_scale,
        out_offset,
        low,
        high,
        K,
        WIDTH,
        PITCHES,
        FACTOR,
        Y_PITCH,
        Y_FIRST,
        FILL,
        STEPS,
        ARGUMENTS,
        IMAGE_OUT,
        ROUND,
    )


@triton.jit
def _stage(
    x_ptr,
    w_ptr,
    v_ptr,
    y_ptr,
    o0_ptr,
    o1_ptr,
    o2_ptr,
    H,
    W,
    top,
    left,
    C: tl.constexpr,
    K: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCKS: tl.constexpr,
    PITCH: tl.constexpr,
    TH: tl.constexpr,
    TW: tl.constexpr,
    FIRST: tl.constexpr,
    LAST: tl.constexpr,
    STEPS: tl.constexpr,
    ARGUMENTS: tl.constexpr,
    PITCHES: tl.constexpr,
    BEGIN: tl.constexpr,
    END: tl.constexpr,
    ARITHMETIC: tl.constexpr,
    BM: tl.constexpr,
    BK: tl.constexpr,
):
    """Compute one 3x3 convolution of a chain on TH x TW pixels from (top, left), BM pixels at a time."""
    k = tl.arange(0, BK)
    co = tl.arange(0, WIDTH)
    for first in range(0, TH * TW, BM):
        i = first + tl.arange(0, BM)
        ry = i // TW
        rx = i % TW
        oy = top + ry
        ox = left + rx
        used = i < TH * TW
        inside = used & (oy >= 0) & (oy < H) & (ox >= 0) & (ox < W)
        acc = _bias(v_ptr, co, BM, WIDTH, ARITHMETIC)
        for t in range(9 * BLOCKS):
            tap = t // BLOCKS
            c = (t % BLOCKS) * BK + k
            if FIRST:
                py = oy + (tap // 3 - 1)
                px = ox + (tap % 3 - 1)
                there = inside & (py >= 0) & (py < H) & (px >= 0) & (px < W)
                pointers = x_ptr + (py * W + px)[:, None] * C + c[None, :]
            else:
                there = used
                pointers = x_ptr + ((ry + tap // 3) * (TW + 2) + rx + tap % 3)[:, None] * C + c[None, :]
            a = tl.load(pointers, mask=there[:, None] & (c < C)[None, :], other=0.0)
            b = tl.load(w_ptr + (t * BK + k)[:, None] * WIDTH + co[None, :])
            acc = _dot(a, b, acc, ARITHMETIC)
        pixel = (oy * W + ox)[:, None]
        ok = inside[:, None] & (co < K)[None, :]
        acc = _steps(
            acc.to(tl.float32),
            v_ptr + WIDTH,
            co,
            pixel,
            co[None, :],
            pixel,
            co[None, :],
            ok,
            o0_ptr,
            o1_ptr,
            o2_ptr,
            STEPS,
            ARGUMENTS,
            PITCHES,
            BEGIN,
            END,
            WIDTH,
        )
        acc = tl.where(ok, acc, 0.0)  # the next stage sees zeros outside the image, not what a convolution has there
        if LAST:
            pointers = y_ptr + pixel * PITCH + co[None, :]
            ok = inside[:, None] & (co < PITCH)[None, :]
        else:
            pointers = y_ptr + i[:, None] * PITCH + co[None, :]
            ok = used[:, None] & (co < PITCH)[None, :]
        tl.store(pointers, acc.to(y_ptr.dtype.element_ty), mask=ok)


@triton.jit
def chain(
    x_ptr,
    w_ptr,
    v_ptr,
    s_ptr,
    y_ptr,
    o0_ptr,
    o1_ptr,
    o2_ptr,
    H,
    W,
    tiles_across,
    tiles,
    C: tl.constexpr,
    MID: tl.constexpr,
    MID_PITCH: tl.constexpr,
    MID_WIDTH: tl.constexpr,
    K: tl.constexpr,
    WIDTH: tl.constexpr,
    PITCH: tl.constexpr,
    STAGES: tl.constexpr,
    STEPS: tl.constexpr,
    ARGUMENTS: tl.constexpr,
    PITCHES: tl.constexpr,
    STEP_AT: tl.constexpr,
    W_AT: tl.constexpr,
    V_AT: tl.constexpr,
    S_AT: tl.constexpr,
    SLAB: tl.constexpr,
    ARITHMETIC: tl.constexpr,
    TH: tl.constexpr,
    TW: tl.constexpr,
    BM: tl.constexpr,
    BK: tl.constexpr,
):
    """Compute STAGES 3x3 convolutions, C -> MID -> ... -> MID -> K channels, tile by tile. Grid: (programs,).

    Each program has a slab of SLAB elements in s for what lies between (Triton's shared memory can't be indexed);
    it stays in the L2 cache. A tile's intermediate values are computed with the halo that the later stages need.
    STEP_AT, W_AT, V_AT, S_AT: where each stage's steps, weights, vectors and intermediate values begin.
    """
    s = s_ptr + tl.program_id(0) * SLAB
    tile = tl.program_id(0)
    while tile < tiles:  # the interpreter has no range over values
        top = (tile // tiles_across) * TH
        left = (tile % tiles_across) * TW
        for i in tl.static_range(STAGES):
            _stage(
                x_ptr if i == 0 else s + S_AT[i - 1],
                w_ptr + W_AT[i],
                v_ptr + V_AT[i],
                y_ptr if i == STAGES - 1 else s + S_AT[i],
                o0_ptr,
                o1_ptr,
                o2_ptr,
                H,
                W,
                top - (STAGES - 1 - i),
                left - (STAGES - 1 - i),
                C if i == 0 else MID_PITCH,
                K if i == STAGES - 1 else MID,
                WIDTH if i == STAGES - 1 else MID_WIDTH,
                (C + BK - 1) // BK if i == 0 else (MID_PITCH + BK - 1) // BK,
                PITCH if i == STAGES - 1 else MID_PITCH,
                TH + 2 * (STAGES - 1 - i),
                TW + 2 * (STAGES - 1 - i),
                i == 0,
                i == STAGES - 1,
                STEPS,
                ARGUMENTS,
                PITCHES,
                STEP_AT[i],
                STEP_AT[i + 1],
                ARITHMETIC,
                BM,
                BK,
            )
            tl.debug_barrier()  # what the block stored is there for all of its threads
        tile += tl.num_programs(0)


@triton.jit
def pointwise(
    x_ptr,
    v_ptr,
    y_ptr,
    o0_ptr,
    o1_ptr,
    o2_ptr,
    flag_ptr,
    H,
    W,
    x_row,
    x_column,
    x_channel,
    in_scale,
    in_offset,
    y_row,
    y_column,
    y_channel,
    top,
    left,
    rows,
    columns,
    out_scale,
    out_offset,
    low,
    high,
    X_PITCH: tl.constexpr,
    X_FIRST: tl.constexpr,
    K: tl.constexpr,
    WIDTH: tl.constexpr,
    PITCHES: tl.constexpr,
    FACTOR: tl.constexpr,
    Y_PITCH: tl.constexpr,
    Y_FIRST: tl.constexpr,
    FILL: tl.constexpr,
    STEPS: tl.constexpr,
    ARGUMENTS: tl.constexpr,
    IMAGE_IN: tl.constexpr,
    IMAGE_OUT: tl.constexpr,
    ROUND: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
):
    """Apply steps to channels X_FIRST.. of x: also slices, parts of joins, pixel shuffles and conversions."""
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    co = tl.program_id(1) * BN + tl.arange(0, BN)
    if FACTOR > 1:
        C: tl.constexpr = K // (FACTOR * FACTOR)
        source = (co % C) * (FACTOR * FACTOR) + co // C
    else:
        source = co
    ok = (m < H * W)[:, None] & (co < K)[None, :]
    if IMAGE_IN:
        pointers = x_ptr + (m // W * x_row + m % W * x_column)[:, None] + (X_FIRST + source)[None, :] * x_channel
    else:
        pointers = x_ptr + m[:, None] * X_PITCH + (X_FIRST + source)[None, :]
    acc = _load(pointers, ok, in_scale, in_offset, IMAGE_IN).to(tl.float32)
    _finish(
        acc,
        m,
        co,
        y_ptr,
        v_ptr,
        o0_ptr,
        o1_ptr,
        o2_ptr,
        flag_ptr,
        H,
        W,
        y_row,
        y_column,
        y_channel,
        top,
        left,
        rows,
        columns,
        out_scale,
        out_offset,
        low,
        high,
        K,
        WIDTH,
        PITCHES,
        FACTOR,
        Y_PITCH,
        Y_FIRST,
        FILL,
        STEPS,
        ARGUMENTS,
        IMAGE_OUT,
        ROUND,
    )


@triton.jit
def resize(
    x_ptr,
    p_ptr,
    v_ptr,
    y_ptr,
    flag_ptr,
    H,
    W,
    x_row,
    x_column,
    x_channel,
    in_scale,
    in_offset,
    y_row,
    y_column,
    y_channel,
    top,
    left,
    rows,
    columns,
    out_scale,
    out_offset,
    low,
    high,
    X_PITCH: tl.constexpr,
    K: tl.constexpr,
    ENLARGE: tl.constexpr,
    TAPS: tl.constexpr,
    Y_PITCH: tl.constexpr,
    FILL: tl.constexpr,
    IMAGE_IN: tl.constexpr,
    IMAGE_OUT: tl.constexpr,
    ROUND: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
):
    """Enlarge x (H, W, K) ENLARGE times by the phase weights p (ENLARGE, TAPS); the edge pixel repeats outside."""
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    co = tl.program_id(1) * BN + tl.arange(0, BN)
    OW = W * ENLARGE
    oy = m // OW
    ox = m % OW
    ok = (oy < H * ENLARGE)[:, None] & (co < K)[None, :]
    acc = tl.zeros((BM, BN), dtype=tl.float32)
    for t in range(TAPS * TAPS):
        weight = tl.load(p_ptr + oy % ENLARGE * TAPS + t // TAPS) * tl.load(p_ptr + ox % ENLARGE * TAPS + t % TAPS)
        iy = tl.minimum(tl.maximum(oy // ENLARGE + t // TAPS - TAPS // 2, 0), H - 1)
        ix = tl.minimum(tl.maximum(ox // ENLARGE + t % TAPS - TAPS // 2, 0), W - 1)
        if IMAGE_IN:
            pointers = x_ptr + (iy * x_row + ix * x_column)[:, None] + co[None, :] * x_channel
        else:
            pointers = x_ptr + (iy * W + ix)[:, None] * X_PITCH + co[None, :]
        acc += weight[:, None] * _load(pointers, ok, in_scale, in_offset, IMAGE_IN).to(tl.float32)
    _finish(
        acc,
        m,
        co,
        y_ptr,
        v_ptr,
        v_ptr,
        v_ptr,
        v_ptr,
        flag_ptr,
        H * ENLARGE,
        OW,
        y_row,
        y_column,
        y_channel,
        top,
        left,
        rows,
        columns,
        out_scale,
        out_offset,
        low,
        high,
        K,
        BN,
        (),
        1,
        Y_PITCH,
        0,
        FILL,
        (),
        (),
        IMAGE_OUT,
        ROUND,
    )
