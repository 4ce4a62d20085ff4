// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package contract

import "math/big"

// A plain number is one without exponent whose digits make an integer below
// 1e18: digits / 10^scale, exactly. All others are left to the library, so
// that no comparison ever rounds.
type decimal struct {
	digits int64
	scale  int
}

const (
	maxDigits = 1e18
	maxScale  = 18
)

// plainNumber reads a number token. integral says whether its value is an
// integer; ok is false when the token is not a plain number.
func plainNumber(token []byte) (d decimal, integral, ok bool) {
	i := 0
	negative := token[0] == '-'
	if negative {
		i++
	}
	integral = true
	point := -1
	for ; i < len(token); i++ {
		c := token[i]
		if c == '.' {
			point = i
			continue
		}
		if c < '0' || c > '9' || d.digits >= maxDigits/10 {
			return d, false, false
		}
		if point >= 0 && c != '0' {
			integral = false
		}
		d.digits = d.digits*10 + int64(c-'0')
	}
	if point >= 0 {
		d.scale = len(token) - point - 1
	}
	if negative {
		d.digits = -d.digits
	}
	return d, integral, d.scale <= maxScale
}

// interval is a range of numbers for comparison with plain ones: a decimal
// lies in it if its digits lie between lo and hi of its scale. Both ends are
// exact, because digits are integers.
type interval struct {
	lo, hi [maxScale + 1]int64
}

// newInterval builds the range of the JSON Schema keywords of that name; nil
// is no bound.
func newInterval(minimum, exclusiveMinimum, maximum, exclusiveMaximum *big.Rat) *interval {
	if minimum == nil && exclusiveMinimum == nil && maximum == nil && exclusiveMaximum == nil {
		return nil
	}
	v := &interval{}
	power := big.NewInt(1)
	for scale := range v.lo {
		lo, hi := big.NewInt(-maxDigits), big.NewInt(maxDigits)
		raise := func(to *big.Int) {
			if to.Cmp(lo) > 0 {
				lo = to
			}
		}
		lower := func(to *big.Int) {
			if to.Cmp(hi) < 0 {
				hi = to
			}
		}
		if minimum != nil {
			raise(ceil(minimum, power))
		}
		if exclusiveMinimum != nil {
			raise(new(big.Int).Add(floor(exclusiveMinimum, power), big.NewInt(1)))
		}
		if maximum != nil {
			lower(floor(maximum, power))
		}
		if exclusiveMaximum != nil {
			lower(new(big.Int).Sub(ceil(exclusiveMaximum, power), big.NewInt(1)))
		}
		// Beyond the largest plain number all bounds are the same.
		v.lo[scale] = clamp(lo)
		v.hi[scale] = clamp(hi)
		power = new(big.Int).Mul(power, big.NewInt(10))
	}
	return v
}

// contains says whether a plain number lies in the range.
func (v *interval) contains(d decimal) bool {
	return d.digits >= v.lo[d.scale] && d.digits <= v.hi[d.scale]
}

// floor is the largest integer not above x*power.
func floor(x *big.Rat, power *big.Int) *big.Int {
	n := new(big.Int).Mul(x.Num(), power)
	return n.Div(n, x.Denom()) // Euclidean: the denominator is positive
}

// ceil is the smallest integer not below x*power.
func ceil(x *big.Rat, power *big.Int) *big.Int {
	n := floor(new(big.Rat).Neg(x), power)
	return n.Neg(n)
}

func clamp(n *big.Int) int64 {
	if n.CmpAbs(big.NewInt(maxDigits)) > 0 {
		return int64(n.Sign()) * maxDigits
	}
	return n.Int64()
}
