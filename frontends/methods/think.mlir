// ThinK, arXiv 2407.21018. In every row head the key channels that add least to the logits of the last `window` queries
// of the prompt are dropped, a share `ratio` of them: mean of q^2 over rows and group times mean of k^2 over entries.
// Values stay whole, as do the last `recent` keys of the prompt and every later one.
// Budget: none. granularity=query_head has K, V and channels for each query head (the published code).
// Deviation: a dropped channel is held as 0, which gives the logits of keys stored without it but saves no memory.
!low = !kvcache.tensor<head:Hkv, group:Gs, channel.post:D, f32>
!q2 = !kvcache.tensor<head:Hkv, group:G, query.win:?, channel.post:D, f32>
!qm = !kvcache.tensor<head:Hkv, group:G, channel.post:D, f32>
!k2 = !kvcache.tensor<head:Hkv, group:Gs, token:?, channel.post:D, f32>
!kept = !kvcache.index<head:Hkv, group:Gs, channel.kept:? of channel.post>
!ones = !kvcache.tensor<head:Hkv, group:Gs, channel.kept:?, f32>
kvcache.method @think info {family = "project", paper = "arXiv 2407.21018", title = "ThinK"} {
  kvcache.param @ratio = 0.4 : f32 in [0.0, 1.0]
  kvcache.param @recent = 32 : index in [0, 1048576]
  kvcache.param @window = 32 : index in [1, 4096]
  kvcache.param @granularity = "kv_head" in {"kv_head", "query_head"}
  kvcache.state @kv : !kvG
  kvcache.phase compress (%q = last_queries(window) : !qw, %kv = @kv : !kvG, %ratio = @ratio : f32, %r = @recent : index) on(prompt_end) {
    %k = kvcache.column k of %kv : (!kvG) -> !kTG
    %q2 = kvcache.map "q * q" (q = %q) : (!qw) -> !q2
    %qm = kvcache.reduce mean %q2 over [query.win] : (!q2) -> !qm
    %qg = kvcache.reduce mean %qm over [group] : (!qm) -> !low
    %k2 = kvcache.map "k * k" (k = %k) : (!kTG) -> !k2
    %km = kvcache.reduce mean %k2 over [token] : (!k2) -> !low
    %s = kvcache.map "q * k" (q = %qg, k = %km) : (!low, !low) -> !low
    %D = kvcache.extent channel.post of %k : (!kTG) -> index
    %Di = arith.index_cast %D : index to i32
    %Df = arith.sitofp %Di : i32 to f32
    %share = arith.mulf %Df, %ratio : f32
    %cut = arith.fptosi %share : f32 to i32
    %gone = arith.index_cast %cut : i32 to index
    %n = arith.subi %D, %gone : index
    %kept = kvcache.topk %s count %n along channel.post : (!low, index) -> !kept
    %at = kvcache.gather %s at %kept : (!low, !kept) -> !ones
    %one = kvcache.map "1" (s = %at) : (!ones) -> !ones
    %none = kvcache.map "0 * s" (s = %s) : (!low) -> !low
    %mask = kvcache.scatter set %one into %none at %kept : (!ones, !low, !kept) -> !low
    %i = kvcache.iota token of %k : (!kTG) -> !pT
    %T = kvcache.extent token of %k : (!kTG) -> index
    %nk = kvcache.map "select(i < T - r, m * k, k)" (i = %i, T = %T, r = %r, m = %mask, k = %k) : (!pT, index, index, !low, !kTG) -> !kTG
    %d = kvcache.set_column %kv, k = %nk : (!kvG, !kTG) -> !kvG
    kvcache.next @kv = %d : !kvG
  }
}
