// Philox4x64-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011). Block b of a stream is the
// cipher of the counter (b, 0, 0, 0) under the key (seed, 0): four 64-bit words.
typedef unsigned long long u64;
typedef unsigned int u32;
typedef long long i64;

struct Block {
    u64 word[4];
};

__device__ inline Block philox(u64 counter, u64 seed) {
    u64 c0 = counter, c1 = 0, c2 = 0, c3 = 0, k0 = seed, k1 = 0;
    for (int round = 0; round < 10; ++round) {
        const u64 low0 = 0xD2E7470EE14C6C93ull * c0, high0 = __umul64hi(0xD2E7470EE14C6C93ull, c0);
        const u64 low1 = 0xCA5A826395121157ull * c2, high1 = __umul64hi(0xCA5A826395121157ull, c2);
        c0 = high1 ^ c1 ^ k0;
        c1 = low1;
        c2 = high0 ^ c3 ^ k1;
        c3 = low0;
        k0 += 0x9E3779B97F4A7C15ull;
        k1 += 0xBB67AE8584CAA73Bull;
    }
    return {{c0, c1, c2, c3}};
}

// The k-th 32-bit half of a block, low halves first. Not by an index, which would put the block into local memory where
// k is not known at compile time.
__device__ inline u32 half_word(const Block& block, int k) {
    const u64 low = k < 2 ? block.word[0] : block.word[1], high = k < 6 ? block.word[2] : block.word[3];
    return (u32)((k < 4 ? low : high) >> (32 * (k % 2)));
}
