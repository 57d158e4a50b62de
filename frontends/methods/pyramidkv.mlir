// PyramidKV, arXiv 2406.02069, integer form. SnapKV's scores; the number of prefix entries falls linearly with depth,
// from 2 m - m / beta in the first layer to m / beta in the last, m = budget - window; layers that would keep more
// than the prefix give the rest to the others.
// slope=whole (kvpress): the entries of a layer, window included, fall evenly from 2 B - B / beta (at most those before the
// window) in the first layer, and are rounded, half to even; all layers get B where the last would get less than the window.
// Budget: the mean over layers, up to the integer step.
kvcache.method @pyramidkv info {family = "allocate", paper = "arXiv 2406.02069", title = "PyramidKV"} {
  kvcache.param @base = "snapkv" : method
  kvcache.param @beta = 20 : index in [1, 4096]
  kvcache.param @slope = "prefix" in {"prefix", "whole"}
  kvcache.phase allocate (%l = layer : index, %L = layers : index, %T = length : index, %B = budget : index, %W = @window : index, %beta = @beta : index) when(@slope = "prefix") {
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
  kvcache.phase allocate (%l = layer : index, %L = layers : index, %T = length : index, %B = budget : index, %W = @window : index, %beta = @beta : index) when(@slope = "whole") {
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 1 : index
    %c2 = arith.constant 2 : index
    // Entries times beta, and times the steps between the first and the last layer: whole numbers.
    %mean = arith.muli %B, %beta : index
    %mean2 = arith.muli %mean, %c2 : index
    %slope = arith.subi %mean2, %B : index
    %S = arith.subi %T, %W : index
    %prefix = arith.muli %S, %beta : index
    %top = arith.minsi %slope, %prefix : index
    %bottom = arith.subi %mean2, %top : index
    %range = arith.subi %top, %bottom : index
    %L1 = arith.subi %L, %c1 : index
    %steps = arith.maxui %L1, %c1 : index
    %high = arith.muli %top, %steps : index
    %down = arith.muli %range, %l : index
    %each = arith.subi %high, %down : index
    // To the nearest, half to even.
    %unit = arith.muli %beta, %steps : index
    %unit2 = arith.muli %unit, %c2 : index
    %twice = arith.muli %each, %c2 : index
    %more = arith.addi %twice, %unit : index
    %up = arith.divui %more, %unit2 : index
    %over = arith.remui %more, %unit2 : index
    %half = arith.cmpi eq, %over, %c0 : index
    %last = arith.remui %up, %c2 : index
    %odd = arith.cmpi eq, %last, %c1 : index
    %tie = arith.andi %half, %odd : i1
    %less = arith.subi %up, %c1 : index
    %rounded = arith.select %tie, %less, %up : index
    // Flat: one layer, a slope that rises, or one that ends below the window.
    %window = arith.muli %W, %beta : index
    %single = arith.cmpi eq, %L, %c1 : index
    %rising = arith.cmpi slt, %top, %bottom : index
    %narrow = arith.cmpi slt, %bottom, %window : index
    %either = arith.ori %rising, %narrow : i1
    %flat = arith.ori %either, %single : i1
    %n = arith.select %flat, %B, %rounded : index
    %whole = arith.cmpi ule, %T, %B : index
    %b = arith.select %whole, %B, %n : index
    kvcache.next budget = %b : index
  }
}
