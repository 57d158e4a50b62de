// Token merging for the cache, after ToMe, arXiv 2210.09461, in the value-only form of kvpress's merging press. A base
// scorer chooses what stays; each dropped value is folded into the kept entry whose key is most alike, with weight
// cosine x |v_dropped| / (|v_dropped| + |v_kept|). Keys are not touched; merging happens once, after the prompt.
// Only pairs at least `similarity_threshold` alike count, and of those the `merge_fraction` most alike.
// Budget: the base scorer's. `merged` counts the entries folded into each.
!kvm = !kvcache.cache<append, head:Hkv, token:?, {k [channel.post:D] = act, v [channel.v:D] = act, pos = i32, merged = i32}>
!kk = !kvcache.tensor<head:Hkv, token.keep:?, channel.post:D, act>
!ke = !kvcache.tensor<head:Hkv, token.ev:?, channel.post:D, act>
!vk = !kvcache.tensor<head:Hkv, token.keep:?, channel.v:D, act>
!ve = !kvcache.tensor<head:Hkv, token.ev:?, channel.v:D, act>
!sk = !kvcache.tensor<head:Hkv, token.keep:?, f32>
!se = !kvcache.tensor<head:Hkv, token.ev:?, f32>
!ik = !kvcache.tensor<head:Hkv, token.keep:?, i32>
!ie = !kvcache.tensor<head:Hkv, token.ev:?, i32>
!iT = !kvcache.tensor<head:Hkv, token:?, i32>
!to = !kvcache.index<head:Hkv, token.ev:? of token.keep>
kvcache.method @"tome-merge" info {family = "merge", paper = "arXiv 2210.09461", title = "Token merging of values"} {
  kvcache.param @base = "knorm" : method
  kvcache.param @similarity_threshold = 0.0 : f32 in [-1.0, 1.0]
  kvcache.param @merge_fraction = 1.0 : f32 in [0.0, 1.0]
  kvcache.state @kv : !kvm
  kvcache.phase compress (%kv = @kv : !kvm, %keep = keep : !keep, %least = @similarity_threshold : f32, %f = @merge_fraction : f32) {
    %drop = kvcache.select.complement %keep of %kv : (!keep, !kvm) -> !drop
    %k = kvcache.column k of %kv : (!kvm) -> !kT
    %v = kvcache.column v of %kv : (!kvm) -> !vT
    %kk = kvcache.gather %k at %keep : (!kT, !keep) -> !kk
    %ke = kvcache.gather %k at %drop : (!kT, !drop) -> !ke
    %vk = kvcache.gather %v at %keep : (!vT, !keep) -> !vk
    %ve = kvcache.gather %v at %drop : (!vT, !drop) -> !ve
    %cos, %to = kvcache.score.nearest cosine %ke, %kk along token.keep : (!ke, !kk) -> (!se, !to)
    %nk = kvcache.score.norm %vk over [channel.v] : (!vk) -> !sk
    %ne = kvcache.score.norm %ve over [channel.v] : (!ve) -> !se
    %nt = kvcache.gather %nk at %to : (!sk, !to) -> !se
    %alike = kvcache.map "select(c >= least, c, -inf)" (c = %cos, least = %least) : (!se, f32) -> !se
    %one = arith.constant 1.0 : f32
    %at = arith.subf %one, %f : f32
    %cut = kvcache.reduce quantile %alike over [token.ev] at %at : (!se, f32) -> !h
    %w = kvcache.map "select(c >= least & c >= cut, max(c, 0) * (ne / (ne + nt + 1e-6)), 0)" (c = %cos, least = %least, cut = %cut, ne = %ne, nt = %nt) : (!se, f32, !h, !se, !se) -> !se
    %mv = kvcache.merge.into %ve, %vk at %to weight %w : (!ve, !vk, !to, !se) -> !vk
    %hit = kvcache.map "select(w > 0, 1, 0)" (w = %w) : (!se) -> !ie
    %none = kvcache.map "0 * n" (n = %nk) : (!sk) -> !ik
    %count = kvcache.scatter add %hit into %none at %to : (!ie, !ik, !to) -> !ik
    %c = kvcache.gather %kv at %keep : (!kvm, !keep) -> !kvm
    %newV = kvcache.relabel %mv : (!vk) -> !vT
    %newCount = kvcache.relabel %count : (!ik) -> !iT
    %d = kvcache.set_column %c, v = %newV, merged = %newCount : (!kvm, !vT, !iT) -> !kvm
    kvcache.next @kv = %d : !kvm
  }
}
