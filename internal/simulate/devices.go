// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package simulate

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"time"
)

// kinds is the pattern of device kinds, repeated: cow, WildFi tag, weather
// station, barn, camera, lidar, stereo rig. Its beginning shows all of them, so
// that a small herd has variety.
const kinds = "CWECKBLCRCWCCCWCCCWCCKCCWCCCCBWCCCWCCCWC"

// stream is one MQTT topic of one device.
type stream struct {
	device    device
	deviceID  string
	mqttTopic string
	topic     string // Kafka topic that the MQTT topic routes to
	timeField string // timestampField or epochField
	cat       category
	period    float64                                    // s between messages in nature
	write     func(d *document, seq uint64, t time.Time) // t is the virtual clock, whatever the device's says
	fault     func(c Class, rng *rand.Rand) fieldFault   // nil for sensors

	due   float64 // s of nature's time
	order int     // breaks ties
}

// device lives on the virtual clock.
type device interface {
	advance(t time.Time)
}

// newDevice makes the streams of the device at index i of the herd.
func newDevice(i int, seed uint64, start time.Time) []*stream {
	pattern, kind := i/len(kinds), kinds[i%len(kinds)]
	n := 1 // the how manyeth of its kind
	for _, k := range kinds[:i%len(kinds)] {
		if byte(k) == kind {
			n++
		}
	}
	for _, k := range kinds {
		if byte(k) == kind {
			n += pattern
		}
	}
	// A random stream of its own: other devices do not change this one.
	rng := rand.New(rand.NewPCG(seed, uint64(kind)<<32|uint64(n)))
	var streams []*stream
	switch kind {
	case 'C':
		streams = newCow(fmt.Sprintf("cow-%04d", n), rng, start).streams()
	case 'W':
		streams = newTag(n, rng, start).streams()
	case 'E':
		streams = newWeather(fmt.Sprintf("weather-%d", n), rng).streams()
	case 'B':
		streams = newBarn(fmt.Sprintf("barn-%d", n), rng).streams()
	case 'K':
		streams = newCamera(fmt.Sprintf("cam-%d", n), rng).streams()
	case 'L':
		streams = newLidar(fmt.Sprintf("lidar-%d", n), rng).streams()
	case 'R':
		streams = newRig(fmt.Sprintf("rig-%d", n), rng).streams()
	}
	for _, s := range streams {
		s.due = rng.Float64() * s.period
	}
	return streams
}

// stationary is a device without a state of its own.
type stationary struct{}

func (stationary) advance(time.Time) {}

// battery runs down by time and by use.
type battery struct {
	full  float64 // V at the start
	since time.Time
	sent  int
}

func (b *battery) volts(t time.Time) float64 {
	b.sent++
	days := t.Sub(b.since).Hours() / 24
	return math.Max(3.0, b.full-0.004*days-1e-6*float64(b.sent))
}

// cow wears a collar with GPS and accelerometer and carries a bolus in its
// rumen.
type cow struct {
	*animal
	id       string
	battery  battery
	core     float64   // °C, its own normal rumen temperature
	drank    time.Time // when it drank last
	cooled   float64   // °C by which that cooled the rumen
	sinceDay float64   // steps counted when the day began
	day      int
}

func newCow(id string, rng *rand.Rand, start time.Time) *cow {
	return &cow{
		animal:  newAnimal(rng, &cattle, start),
		id:      id,
		battery: battery{full: 3.75 + 0.4*rng.Float64(), since: start},
		core:    39.1 + 0.25*rng.NormFloat64(),
		drank:   start.Add(-time.Duration(rng.Float64() * 3 * float64(time.Hour))),
		cooled:  1.5,
	}
}

func (c *cow) advance(t time.Time) {
	dt := t.Sub(c.clock)
	c.animal.advance(t)
	// About nine drinks a day, on average, of which each cools the rumen by some
	// 2.3 °C for an hour or more (Hanušovský et al. 2017; Cantor, Costa and
	// Bewley 2018, Animals 8(11):194).
	if dt > 0 && t.Sub(c.drank) > 40*time.Minute && c.rng.Float64() < dt.Hours()/2 {
		c.drank = t
		c.cooled = math.Min(5, math.Max(0.3, 2.3+1.2*c.rng.NormFloat64()))
	}
	if day := t.YearDay(); day != c.day {
		c.day, c.sinceDay = day, c.steps
	}
}

func (c *cow) rumenTemperature(t time.Time) float64 {
	warmUp := math.Exp(-t.Sub(c.drank).Minutes() / 35)
	return c.core + 0.25*math.Sin(2*math.Pi*(localHour(t)-12)/24) - c.cooled*warmUp + 0.03*c.rng.NormFloat64()
}

func (c *cow) streams() []*stream {
	base := "devices/" + c.id
	return []*stream{
		{
			device: c, deviceID: c.id, mqttTopic: base + "/gps", topic: TopicGPS, timeField: timestampField, cat: gps, period: 10, fault: gpsFault("latitude", "longitude", "speed_m_s", "heading_deg"),
			write: func(d *document, seq uint64, t time.Time) {
				f := c.fix()
				d.open(seq)
				d.time(timestampField)
				d.number("latitude", f.latitude, 7)
				d.number("longitude", f.longitude, 7)
				d.number("altitude_m", f.altitude, 1)
				d.number("speed_m_s", f.speed, 2)
				d.number("heading_deg", f.heading, 1)
				d.number("hdop", f.hdop, 2)
				d.integer("satellites", int64(7+c.rng.IntN(7)))
				d.number("battery_v", c.battery.volts(t), 2)
				d.close()
			},
		},
		{
			device: c, deviceID: c.id, mqttTopic: base + "/imu", topic: TopicSensor, timeField: timestampField, cat: sensor, period: 10,
			write: func(d *document, seq uint64, t time.Time) {
				m := c.motion()
				d.open(seq)
				d.time(timestampField)
				// Head down while grazing.
				down := 0.1
				if c.doing == grazing {
					down = 0.75
				}
				d.number("acc_x_g", down+m*c.rng.NormFloat64(), 4)
				d.number("acc_y_g", m*c.rng.NormFloat64(), 4)
				d.number("acc_z_g", math.Sqrt(1-down*down)+m*c.rng.NormFloat64(), 4)
				d.number("odba_g", 3*m, 4)
				d.text("activity", c.doing.String())
				d.integer("steps_today", int64(c.steps-c.sinceDay))
				d.number("battery_v", c.battery.volts(t), 2)
				d.close()
			},
		},
		{
			device: c, deviceID: c.id, mqttTopic: base + "/sensor/rumen", topic: TopicSensor, timeField: timestampField, cat: sensor, period: 60,
			write: func(d *document, seq uint64, t time.Time) {
				d.open(seq)
				d.time(timestampField)
				d.text("bolus_id", "bolus-"+c.id[len("cow-"):])
				d.number("temperature_c", c.rumenTemperature(t), 2)
				d.number("ph", 6.25+0.2*math.Sin(2*math.Pi*(localHour(t)-8)/12)+0.05*c.rng.NormFloat64(), 2)
				d.integer("rssi_dbm", int64(-92+c.rng.IntN(20)))
				d.close()
			},
		},
	}
}

// tag is a WildFi tag on a wild animal; a gateway reports what it hears of it.
type tag struct {
	*animal
	n       int
	id      string
	gateway string
	battery battery
	page    int64 // of its flash memory
}

const tagsPerGateway = 6

func newTag(n int, rng *rand.Rand, start time.Time) *tag {
	return &tag{
		animal:  newAnimal(rng, &wildlife, start),
		n:       n,
		id:      tagID(n),
		gateway: fmt.Sprintf("GW-%d", 1+(n-1)/tagsPerGateway),
		battery: battery{full: 3.7 + 0.4*rng.Float64(), since: start},
		page:    int64(rng.IntN(4000)),
	}
}

func tagID(n int) string { return fmt.Sprintf("WF-%04d", n) }

func (w *tag) streams() []*stream {
	base := "wildfi/tags/" + w.id
	return []*stream{
		{
			device: w, deviceID: w.id, mqttTopic: base + "/gps", topic: TopicGPS, timeField: epochField, cat: gps, period: 20, fault: gpsFault("lat", "lon", "speed_m_s", "heading_deg"),
			write: func(d *document, seq uint64, t time.Time) {
				f := w.fix()
				d.open(seq)
				d.time(epochField)
				d.number("lat", f.latitude, 7)
				d.number("lon", f.longitude, 7)
				d.number("altitude_m", f.altitude, 1)
				d.number("speed_m_s", f.speed, 2)
				d.number("heading_deg", f.heading, 1)
				d.number("hdop", f.hdop, 2)
				d.integer("fixType", 3)
				d.integer("ttfSeconds", int64(1+w.rng.IntN(28)))
				d.number("batteryV", w.battery.volts(t), 2)
				d.close()
			},
		},
		{
			device: w, deviceID: w.id, mqttTopic: base + "/imu", topic: TopicSensor, timeField: epochField, cat: sensor, period: 10,
			write: func(d *document, seq uint64, t time.Time) {
				d.open(seq)
				d.time(epochField)
				d.integer("sampleRateHz", 25)
				for axis, gravity := range []float64{0.15, -0.05, 0.98} {
					var samples [6]float64
					for i := range samples {
						samples[i] = gravity + w.motion()*w.rng.NormFloat64()
					}
					d.numbers([]string{"accX", "accY", "accZ"}[axis], samples[:], 4)
				}
				d.number("batteryV", w.battery.volts(t), 2)
				d.close()
			},
		},
		{
			device: w, deviceID: w.id, mqttTopic: base + "/environment", topic: TopicSensor, timeField: epochField, cat: sensor, period: 60,
			write: func(d *document, seq uint64, t time.Time) {
				d.open(seq)
				d.time(epochField)
				// The tag sits in the fur and in the sun.
				d.number("temperatureInDegCel", airTemperature(t)+4+6*daylight(t)+0.3*w.rng.NormFloat64(), 2)
				d.number("humidityInPct", math.Min(100, 0.8*airHumidity(t)+2*w.rng.NormFloat64()), 1)
				d.number("pressureInHPA", airPressure(t)-(w.pos.altitude()-originAltitude)/8.4, 2)
				d.number("batteryV", w.battery.volts(t), 2)
				d.close()
			},
		},
		{
			device: w, deviceID: w.id, mqttTopic: base + "/proximity", topic: TopicSensor, timeField: epochField, cat: sensor, period: 30,
			write: func(d *document, seq uint64, t time.Time) {
				contacts := []byte{'['}
				for i := range w.rng.IntN(4) {
					if i > 0 {
						contacts = append(contacts, ',')
					}
					// Neighbours in the numbering: they need not be in the herd to be heard.
					other := w.n + 1 + i
					contacts = append(contacts, `{"tag":"`...)
					contacts = append(contacts, tagID(other)...)
					contacts = append(contacts, `","rssi":`...)
					contacts = strconv.AppendInt(contacts, int64(-95+w.rng.IntN(45)), 10)
					contacts = append(contacts, '}')
				}
				d.open(seq)
				d.time(epochField)
				d.raw("contacts", string(append(contacts, ']')))
				d.integer("scanMillis", int64(90+w.rng.IntN(40)))
				d.number("batteryV", w.battery.volts(t), 2)
				d.close()
			},
		},
		{
			device: w, deviceID: w.id, mqttTopic: "wildfi/gateways/" + w.gateway + "/tags/" + w.id + "/metadata", topic: TopicSensor, timeField: epochField, cat: sensor, period: 60,
			write: func(d *document, seq uint64, t time.Time) {
				w.page += int64(1 + w.rng.IntN(3))
				d.open(seq)
				d.time(epochField)
				d.text("gateway", w.gateway)
				d.integer("rssi", int64(-100+w.rng.IntN(45)))
				d.integer("flashPage", w.page)
				d.integer("transmittedMessages", int64(3+w.rng.IntN(40)))
				d.integer("lostMessages", int64(w.rng.IntN(3)))
				d.text("firmware", "2.4.1")
				d.number("batteryV", w.battery.volts(t), 2)
				d.close()
			},
		},
	}
}

// weather is a weather station.
type weather struct {
	stationary
	id  string
	rng *rand.Rand
}

func newWeather(id string, rng *rand.Rand) *weather { return &weather{id: id, rng: rng} }

func (w *weather) streams() []*stream {
	return []*stream{{
		device: w, deviceID: w.id, mqttTopic: "devices/" + w.id + "/environment", topic: TopicSensor, timeField: timestampField, cat: sensor, period: 30,
		write: func(d *document, seq uint64, t time.Time) {
			d.open(seq)
			d.time(timestampField)
			d.number("temperature_c", airTemperature(t)+0.1*w.rng.NormFloat64(), 2)
			d.number("humidity_pct", math.Min(100, airHumidity(t)+0.5*w.rng.NormFloat64()), 1)
			d.number("pressure_hpa", airPressure(t)+0.05*w.rng.NormFloat64(), 2)
			d.number("wind_speed_m_s", windSpeed(t)*(0.6+0.4*w.rng.ExpFloat64()), 1)
			d.number("wind_direction_deg", math.Mod(620+70*spell(t, 4)+12*w.rng.NormFloat64(), 360), 0)
			d.number("rain_mm_h", rain(t), 2)
			d.number("solar_radiation_w_m2", 950*daylight(t)*(0.75+0.25*spell(t, 2)), 0)
			d.close()
		},
	}}
}

// barn holds sensors of the air in a cubicle house. Ventilation follows the
// weather outside; the levels are plausible values of a naturally ventilated
// house.
type barn struct {
	stationary
	id  string
	rng *rand.Rand
}

func newBarn(id string, rng *rand.Rand) *barn { return &barn{id: id, rng: rng} }

func (b *barn) streams() []*stream {
	reading := func(name, field, unit string, decimals int, value func(t time.Time) float64) *stream {
		return &stream{
			device: b, deviceID: b.id, mqttTopic: "devices/" + b.id + "/env/" + name, topic: TopicSensor, timeField: timestampField, cat: sensor, period: 30,
			write: func(d *document, seq uint64, t time.Time) {
				d.open(seq)
				d.time(timestampField)
				d.text("sensor_id", b.id+"-"+name)
				d.number(field, value(t), decimals)
				d.text("unit", unit)
				d.number("temperature_c", airTemperature(t)+3.5+0.1*b.rng.NormFloat64(), 2)
				d.integer("uptime_s", t.Unix()%2_592_000)
				d.text("status", "ok")
				d.close()
			},
		}
	}
	still := func(t time.Time) float64 { return 1.8 / (1 + windSpeed(t)) } // less wind, staler air
	return []*stream{
		reading("humidity", "humidity_pct", "%", 1, func(t time.Time) float64 {
			return math.Min(100, airHumidity(t)+6+0.6*b.rng.NormFloat64())
		}),
		reading("ammonia", "ammonia_ppm", "ppm", 2, func(t time.Time) float64 {
			return math.Max(0.2, 2+6*still(t)+0.12*math.Max(0, airTemperature(t))+0.3*b.rng.NormFloat64())
		}),
		reading("co2", "co2_ppm", "ppm", 0, func(t time.Time) float64 {
			return 480 + 900*still(t) + 15*b.rng.NormFloat64()
		}),
	}
}

// Media devices put objects into a bucket and publish what they are.

// object describes one stored object of a media device.
type object struct {
	device, bucket, format, contentType string
	bytes                               int64
}

// write writes the fields that all media contracts share.
func (o object) write(d *document, seq uint64, t time.Time, rng *rand.Rand) {
	key := make([]byte, 0, 64)
	key = append(key, o.device...)
	key = t.AppendFormat(key, "/2006/01/02/150405.000-")
	key = appendPadded(key, seq)
	key = append(key, '.')
	key = append(key, o.format...)
	d.time(timestampField)
	d.text("bucket", o.bucket)
	d.text("object_key", string(key))
	d.text("object_uri", "s3://"+o.bucket+"/"+string(key))
	d.text("format", o.format)
	d.text("content_type", o.contentType)
	d.integer("size_bytes", o.bytes)
	d.text("checksum", fmt.Sprintf("md5:%016x%016x", rng.Uint64(), rng.Uint64()))
}

// appendPadded appends a sequence number with at least six digits.
func appendPadded(b []byte, seq uint64) []byte {
	for limit := uint64(100_000); seq < limit && limit > 1; limit /= 10 {
		b = append(b, '0')
	}
	return strconv.AppendUint(b, seq, 10)
}

// camera takes pictures and short films.
type camera struct {
	stationary
	id  string
	rng *rand.Rand
}

func newCamera(id string, rng *rand.Rand) *camera { return &camera{id: id, rng: rng} }

func (c *camera) streams() []*stream {
	return []*stream{
		{
			device: c, deviceID: c.id, mqttTopic: "devices/" + c.id + "/image2d", topic: TopicImage2D, timeField: timestampField, cat: media, period: 15, fault: mediaFault("width", "height"),
			write: func(d *document, seq uint64, t time.Time) {
				d.openTagged(seq, `,"trigger":"interval","lens":"wide"`)
				object{c.id, "media-raw-2d-images", "jpg", "image/jpeg", int64(380_000 + c.rng.IntN(240_000))}.write(d, seq, t, c.rng)
				d.text("camera_id", c.id)
				d.integer("width", 1920)
				d.integer("height", 1080)
				d.close()
			},
		},
		{
			device: c, deviceID: c.id, mqttTopic: "devices/" + c.id + "/video2d", topic: TopicVideo2D, timeField: timestampField, cat: media, period: 60, fault: mediaFault("width", "height", "frame_rate"),
			write: func(d *document, seq uint64, t time.Time) {
				frames := int64(250 + c.rng.IntN(500))
				d.openTagged(seq, `,"trigger":"motion"`)
				object{c.id, "media-raw-2d-videos", "mp4", "video/mp4", frames * int64(21_000+c.rng.IntN(6_000))}.write(d, seq, t, c.rng)
				d.text("camera_id", c.id)
				d.text("codec", "h264")
				d.integer("duration_ms", frames*40)
				d.integer("frame_rate", 25)
				d.integer("frame_count", frames)
				d.integer("width", 1920)
				d.integer("height", 1080)
				d.close()
			},
		},
	}
}

// lidar scans a passage for the body condition of the animals.
type lidar struct {
	stationary
	id  string
	rng *rand.Rand
}

func newLidar(id string, rng *rand.Rand) *lidar { return &lidar{id: id, rng: rng} }

func (l *lidar) streams() []*stream {
	return []*stream{{
		device: l, deviceID: l.id, mqttTopic: "devices/" + l.id + "/image3d", topic: TopicImage3D, timeField: timestampField, cat: media, period: 30, fault: mediaFault("point_count"),
		write: func(d *document, seq uint64, t time.Time) {
			points := int64(48_000 + l.rng.IntN(40_000))
			d.openTagged(seq, `,"passage":"milking"`)
			object{l.id, "media-raw-3d-images", "pcd", "application/octet-stream", points*16 + 220}.write(d, seq, t, l.rng)
			d.text("sensor_id", l.id)
			d.text("capture_type", "lidar")
			d.integer("point_count", points)
			d.text("coordinate_frame", "passage")
			d.close()
		},
	}}
}

// rig is a pair of cameras that films in stereo.
type rig struct {
	stationary
	id  string
	rng *rand.Rand
}

func newRig(id string, rng *rand.Rand) *rig { return &rig{id: id, rng: rng} }

func (r *rig) streams() []*stream {
	return []*stream{{
		device: r, deviceID: r.id, mqttTopic: "devices/" + r.id + "/video3d", topic: TopicVideo3D, timeField: timestampField, cat: media, period: 60, fault: mediaFault("views", "width", "height", "frame_rate"),
		write: func(d *document, seq uint64, t time.Time) {
			frames := int64(150 + r.rng.IntN(300))
			d.openTagged(seq, `,"baseline_mm":240`)
			object{r.id, "media-raw-3d-videos", "mkv", "video/x-matroska", frames * int64(52_000+r.rng.IntN(9_000))}.write(d, seq, t, r.rng)
			d.text("rig_id", r.id)
			d.text("representation", "stereo")
			d.text("codec", "h265")
			d.integer("duration_ms", frames*1000/30)
			d.integer("frame_rate", 30)
			d.integer("frame_count", frames)
			d.integer("views", 2)
			d.integer("width", 1280)
			d.integer("height", 720)
			d.close()
		},
	}}
}
