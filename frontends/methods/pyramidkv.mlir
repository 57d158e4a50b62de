// PyramidKV, arXiv 2406.02069, integer form. SnapKV's scores; the number of prefix entries falls linearly with depth,
// from 2 m - m / beta in the first layer to m / beta in the last, m = budget - window; layers that would keep more
// than the prefix give the rest to the others.
// Budget: the mean over layers, up to the integer step.
kvcache.method @pyramidkv info {family = "allocate", paper = "arXiv 2406.02069", title = "PyramidKV"} {
  kvcache.param @base = "snapkv" : method
  kvcache.param @beta = 20 : index in [1, 4096]
  kvcache.phase allocate (%l = layer : index, %L = layers : index, %T = length : index, %B = budget : index, %W = @window : index, %beta = @beta : index) {
    %c1 = arith.constant 1 : index
    %wB = arith.minui %W, %B : index
    %wT = arith.minui %W, %T : index
    %m = arith.subi %B, %wB : index
    %S = arith.subi %T, %wT : index
    %m2 = arith.addi %m, %m : index
    %low = arith.divui %m, %beta : index
    %high = arith.subi %m2, %low : index
    %top = arith.minui %high, %S : index
    %bottom0 = arith.subi %m2, %top : index
    %bottom = arith.minui %bottom0, %top : index
    %L1 = arith.subi %L, %c1 : index
    %steps = arith.maxui %L1, %c1 : index
    %range = arith.subi %top, %bottom : index
    %step = arith.divui %range, %steps : index
    %down = arith.muli %l, %step : index
    %sloped = arith.subi %top, %down : index
    // Flat: a prompt shorter than 2 m, or one layer.
    %short = arith.cmpi ult, %T, %m2 : index
    %single = arith.cmpi eq, %L, %c1 : index
    %flat = arith.ori %short, %single : i1
    %prefix = arith.select %flat, %m, %sloped : index
    %n = arith.addi %prefix, %wB : index
    %whole = arith.cmpi ule, %T, %B : index
    %b = arith.select %whole, %B, %n : index
    kvcache.next budget = %b : index
  }
}
