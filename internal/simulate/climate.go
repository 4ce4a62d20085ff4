// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package simulate

import (
	"math"
	"time"
)

// The weather of the site as a function of time alone: a year's and a day's
// course, and slow changes from day to day. Plausible values of a temperate
// climate.

// daylight is 0 at night and 1 at solar noon of midsummer.
func daylight(t time.Time) float64 {
	season := math.Cos(2 * math.Pi * float64(t.YearDay()-172) / 365.25)
	halfDay := 6 + 2*season // hours from noon to sunset
	x := math.Abs(localHour(t) - 12)
	return math.Max(0, math.Cos(math.Pi/2*x/halfDay)) * (0.65 + 0.35*season)
}

// spell wanders between -1 and 1 over days; phase tells apart the quantities
// that have one.
func spell(t time.Time, phase float64) float64 {
	days := float64(t.Unix()) / 86_400
	return (math.Sin(days*1.37+phase) + math.Sin(days*0.61+2*phase)) / 2
}

// airTemperature in °C: warmest in July and at three in the afternoon.
func airTemperature(t time.Time) float64 {
	year := -9.5 * math.Cos(2*math.Pi*float64(t.YearDay()-20)/365.25)
	day := -5.0 * math.Cos(2*math.Pi*(localHour(t)-3)/24)
	return 10.5 + year + day + 3.5*spell(t, 0)
}

// airHumidity in percent: highest when it is coldest.
func airHumidity(t time.Time) float64 {
	h := 74 + 16*math.Cos(2*math.Pi*(localHour(t)-4)/24) + 9*spell(t, 1)
	return math.Min(100, math.Max(25, h))
}

// airPressure in hPa at the site's altitude.
func airPressure(t time.Time) float64 {
	return 953 + 11*spell(t, 2)
}

// windSpeed in m/s: more by day.
func windSpeed(t time.Time) float64 {
	return 1.6 + 1.2*daylight(t) + 1.4*math.Abs(spell(t, 3))
}

// rain in mm/h: some when the pressure is low.
func rain(t time.Time) float64 {
	return math.Max(0, -spell(t, 2)-0.55) * 6
}
