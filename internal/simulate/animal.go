// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package simulate

import (
	"math"
	"math/rand/v2"
	"time"
)

// The site, a fictional farm. Positions are metres east and north of its
// origin; over a kilometre the plane is as good as the ellipsoid.
const (
	originLatitude  = 47.7800000
	originLongitude = 9.0600000
	originAltitude  = 512.0 // m above sea level

	metresPerDegree = 111_195.0 // of latitude, on a sphere of 6,371 km
)

var metresPerDegreeEast = metresPerDegree * math.Cos(originLatitude*math.Pi/180)

// point in metres east (x) and north (y) of the site's origin.
type point struct{ x, y float64 }

func (p point) degrees() (latitude, longitude float64) {
	return originLatitude + p.y/metresPerDegree, originLongitude + p.x/metresPerDegreeEast
}

// altitude of the ground: a gentle slope with a hill, in metres.
func (p point) altitude() float64 {
	return originAltitude + 0.03*p.y + 6*math.Sin(p.x/140)*math.Cos(p.y/170)
}

// polygon is a convex area, its corners counter-clockwise.
type polygon []point

// contains says whether p lies inside or within margin metres of the border.
func (g polygon) contains(p point, margin float64) bool {
	for i, a := range g {
		b := g[(i+1)%len(g)]
		dx, dy := b.x-a.x, b.y-a.y
		if dx*(p.y-a.y)-dy*(p.x-a.x) < -margin*math.Hypot(dx, dy) {
			return false
		}
	}
	return true
}

func (g polygon) centre() point {
	var c point
	for _, p := range g {
		c.x += p.x / float64(len(g))
		c.y += p.y / float64(len(g))
	}
	return c
}

// at picks a point inside by two weights from 0 to 1.
func (g polygon) at(rng *rand.Rand) point {
	c := g.centre()
	i := rng.IntN(len(g))
	a, b := g[i], g[(i+1)%len(g)]
	u, v := rng.Float64(), 0.9*math.Sqrt(rng.Float64())
	edge := point{a.x + u*(b.x-a.x), a.y + u*(b.y-a.y)}
	return point{c.x + v*(edge.x-c.x), c.y + v*(edge.y-c.y)}
}

// Pasture of the cattle (25 ha) and the wider land that tagged wildlife uses
// (213 ha).
var (
	pasture   = polygon{{-280, -210}, {120, -260}, {300, -40}, {240, 230}, {-60, 270}, {-300, 90}}
	rangeland = polygon{{-820, -640}, {540, -760}, {880, 60}, {620, 690}, {-240, 760}, {-900, 210}}
)

// activity is what an animal does.
type activity int

const (
	grazing activity = iota
	ruminating
	resting
	walking
	activities // their number
)

func (a activity) String() string {
	return [...]string{"grazing", "ruminating", "resting", "walking"}[a]
}

// bout describes one activity of a species.
type bout struct {
	minutes float64 // mean duration; durations are exponential, at least a minute
	speed   float64 // mean m/s; 0 stays in place
	turn    float64 // radians of turning in one second (standard deviation)
	motion  float64 // dynamic acceleration in g, what an activity index is made of
	steps   float64 // a minute
}

// ethogram is how a species spends its day. Grazing, ruminating and resting
// take 90 to 95 % of a day at pasture, grazing peaks around sunrise and sunset,
// ruminating and resting at night (Kilgour 2012, «In pursuit of "normal": a
// review of the behaviour of cattle at pasture», Applied Animal Behaviour
// Science). Range cows walk about 8 km a day (Rouda et al. 1990). Durations,
// speeds and accelerations here are plausible values that add up to that.
type ethogram struct {
	bouts [activities]bout
	home  polygon
}

var (
	cattle = ethogram{
		bouts: [activities]bout{
			grazing:    {minutes: 70, speed: 0.14, turn: 0.25, motion: 0.085, steps: 9},
			ruminating: {minutes: 45, motion: 0.035},
			resting:    {minutes: 35, motion: 0.012},
			walking:    {minutes: 7, speed: 0.95, turn: 0.06, motion: 0.21, steps: 52},
		},
		home: pasture,
	}
	wildlife = ethogram{
		bouts: [activities]bout{
			grazing:    {minutes: 40, speed: 0.18, turn: 0.30, motion: 0.11, steps: 14},
			ruminating: {minutes: 35, motion: 0.03},
			resting:    {minutes: 40, motion: 0.01},
			walking:    {minutes: 12, speed: 1.25, turn: 0.08, motion: 0.32, steps: 78},
		},
		home: rangeland,
	}
)

// next picks the activity that follows, by the hour of the day at the site.
func (e *ethogram) next(now activity, hour float64, rng *rand.Rand) activity {
	dawnOrDusk := bump(hour, 6.5, 1.8) + bump(hour, 19, 2.2)
	day := math.Max(0, math.Sin(math.Pi*(hour-5)/15))
	weights := [activities]float64{
		grazing:    0.15 + 2.2*dawnOrDusk + 0.5*day,
		ruminating: 1.1 - 0.4*day,
		resting:    1.0 - 0.4*day,
		walking:    0.05 + 0.35*day + 0.4*dawnOrDusk,
	}
	weights[now] = 0
	total := 0.0
	for _, w := range weights {
		total += w
	}
	u := rng.Float64() * total
	for a, w := range weights {
		if u -= w; u < 0 {
			return activity(a)
		}
	}
	return grazing
}

// bump is 1 at the centre and falls off with the distance in hours.
func bump(hour, centre, width float64) float64 {
	d := math.Abs(math.Mod(hour-centre+36, 24) - 12)
	return math.Exp(-d * d / (2 * width * width))
}

// localHour is the solar hour of the day at the site.
func localHour(t time.Time) float64 {
	seconds := float64(t.Unix()%86_400) + float64(t.Nanosecond())/1e9
	return math.Mod(seconds/3600+originLongitude/15+24, 24)
}

// animal walks a correlated random walk inside its home: it keeps its heading
// but for some turning, at a speed that goes with what it does.
type animal struct {
	rng     *rand.Rand
	species *ethogram
	pos     point
	heading float64 // radians clockwise from north
	speed   float64 // m/s
	doing   activity
	left    float64 // seconds of the bout that remain
	steps   float64 // since the start
	drift   point   // error of the position fix, m
	clock   time.Time
}

func newAnimal(rng *rand.Rand, species *ethogram, start time.Time) *animal {
	a := &animal{rng: rng, species: species, clock: start}
	a.pos = species.home.at(rng)
	a.heading = rng.Float64() * 2 * math.Pi
	a.doing = species.next(activity(rng.IntN(int(activities))), localHour(start), rng)
	a.begin()
	a.left *= rng.Float64() // seen in the middle of it
	a.drift = point{fixError * rng.NormFloat64(), fixError * rng.NormFloat64()}
	return a
}

// begin starts a bout of the current activity.
func (a *animal) begin() {
	b := a.species.bouts[a.doing]
	a.left = 60 + a.rng.ExpFloat64()*60*(b.minutes-1)
	a.speed = b.speed
	if b.speed > 0 {
		a.heading += a.rng.NormFloat64()
	}
}

const (
	strideSeconds = 5.0  // longest step of the walk
	maxStrides    = 200  // of one advance, however long it is
	fixError      = 0.9  // m, standard deviation of a position fix
	fixMemory     = 90.0 // s over which the error of successive fixes is alike
	maxSpeed      = 2.5  // m/s
)

// advance lets the animal live until t.
func (a *animal) advance(t time.Time) {
	dt := t.Sub(a.clock).Seconds()
	if dt <= 0 {
		return
	}
	a.clock = t
	n := min(int(math.Ceil(dt/strideSeconds)), maxStrides)
	for h := dt / float64(n); n > 0; n-- {
		a.stride(h, localHour(t))
	}
	keep := math.Exp(-dt / fixMemory)
	noise := fixError * math.Sqrt(1-keep*keep)
	a.drift.x = keep*a.drift.x + noise*a.rng.NormFloat64()
	a.drift.y = keep*a.drift.y + noise*a.rng.NormFloat64()
}

func (a *animal) stride(h, hour float64) {
	if a.left -= h; a.left <= 0 {
		a.doing = a.species.next(a.doing, hour, a.rng)
		a.begin()
	}
	b := a.species.bouts[a.doing]
	if b.speed == 0 {
		return
	}
	a.heading += b.turn * math.Sqrt(h) * a.rng.NormFloat64()
	a.speed += math.Min(1, h/20)*(b.speed-a.speed) + 0.12*b.speed*math.Sqrt(h)*a.rng.NormFloat64()
	a.speed = math.Min(math.Max(a.speed, 0.2*b.speed), math.Min(2*b.speed, maxSpeed))
	a.steps += b.steps * h / 60

	next := point{a.pos.x + a.speed*h*math.Sin(a.heading), a.pos.y + a.speed*h*math.Cos(a.heading)}
	if !a.species.home.contains(next, 0) {
		// The fence turns it back towards the middle.
		c := a.species.home.centre()
		a.heading = math.Atan2(c.x-a.pos.x, c.y-a.pos.y) + 0.4*a.rng.NormFloat64()
		return
	}
	a.pos = next
}

// fix is a position as a receiver reports it.
type fix struct {
	latitude, longitude float64
	altitude            float64 // m
	speed               float64 // m/s
	heading             float64 // degrees clockwise from north, 0 to 360
	hdop                float64
}

func (a *animal) fix() fix {
	p := point{a.pos.x + a.drift.x, a.pos.y + a.drift.y}
	f := fix{altitude: p.altitude() + 1.5*a.rng.NormFloat64(), hdop: 0.7 + 0.25*a.rng.ExpFloat64()}
	f.latitude, f.longitude = p.degrees()
	if a.species.bouts[a.doing].speed > 0 {
		f.speed = math.Max(0, a.speed+0.03*a.rng.NormFloat64())
	} else {
		f.speed = math.Abs(0.02 * a.rng.NormFloat64()) // what a receiver at rest reports
	}
	f.heading = math.Mod(math.Mod(a.heading*180/math.Pi, 360)+360, 360)
	return f
}

// motion is the dynamic acceleration in g at this moment.
func (a *animal) motion() float64 {
	return a.species.bouts[a.doing].motion * (0.7 + 0.3*a.rng.ExpFloat64())
}
