// RUN: %kvasir verify %s --require-fused | FileCheck %s
// REQUIRES: kvasir
// A predicate region chooses: every fourth entry, and those whose largest key channel is above the head's mean.
// CHECK: 11 cases of {{.*}} agree with the reference
kvcache.method @every_fourth info {family = "select", paper = "", title = "every-fourth"} {
  kvcache.param @every = 4 : index in [1, 64]
  kvcache.state @kv : !kv
  kvcache.phase score (%kv = @kv : !kv) on(prompt_end) {
    %k = kvcache.column k of %kv : (!kv) -> !kT
    %a = kvcache.map %k with math.absf : (!kT) -> !kvcache.tensor<head:Hkv, token:?, channel.post:D, f32>
    %s = kvcache.reduce max %a over [channel.post] : (!kvcache.tensor<head:Hkv, token:?, channel.post:D, f32>) -> !s
    kvcache.next score = %s : !s
  }
  kvcache.phase select (%s = score : !s, %n = @every : index) {
    %m = kvcache.reduce mean %s over [token] : (!s) -> !h
    %i = kvcache.iota token of %s : (!s) -> !pT
    %keep = kvcache.select.where %s, %m, %i, %n along token : (!s, !h, !pT, index) -> !keep {
    ^bb0(%x: f32, %y: f32, %at: i32, %e: index):
      %ei = arith.index_cast %e : index to i32
      %r = arith.remui %at, %ei : i32
      %z = arith.constant 0 : i32
      %c = arith.cmpi eq, %r, %z : i32
      %g = arith.cmpf ogt, %x, %y : f32
      %o = arith.ori %c, %g : i1
      kvcache.yield %o : i1
    }
    kvcache.next keep = %keep : !keep
  }
}
