// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package wildfi

import (
	"encoding/binary"
	"math"
)

// Doubt is a reason to use an entry with care: its bytes are where and as long
// as they should be, and one of its values is not what a tag normally stores.
type Doubt uint8

// The doubts.
const (
	DoubtTime       Doubt = 1 << iota // the clock is outside the bounds of the options
	DoubtFullMinute                   // proximity entries are written on the full minute, this one was not
	DoubtRSSI                         // a neighbour was weaker than -100 dBm
	DoubtTTF                          // the time to fix is 0
)

var doubtNames = []string{"time", "full_minute", "rssi", "ttf"}

// Names lists the doubts by name.
func (d Doubt) Names() []string {
	var names []string
	for i, name := range doubtNames {
		if d&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return names
}

// Entry is one entry of a tag's log: the integers as the tag stored them. The
// methods give them in units. Raw and everything that points into it is valid
// until the next entry is decoded.
type Entry struct {
	Tag     MAC
	Type    Type
	Product Product
	Raw     []byte // the whole entry, from its prefix on
	Offset  int64  // of the entry's first byte in the file
	Address uint32 // of the entry's first byte in the tag's flash
	Doubts  Doubt

	// OwnID is the tag's own id as its first data message gave it; only
	// proximity tags send one.
	OwnID uint16

	UTC            uint32 // seconds since 1970; see Clock
	Hundredths     uint8
	LastError      uint8
	ErrorCount     uint16
	Battery        uint16 // mV
	LatitudeE6     int32  // 1e-6 degrees
	LongitudeE6    int32  // 1e-6 degrees
	HDOPTenths     uint8
	TTF            uint8  // s
	Temperature    int16  // 0.01 °C
	Humidity       uint32 // 0.001 %
	Pressure       uint32 // Pa
	IMUTemperature int16  // 0.01 °C

	neighbours []byte
	burst      []byte
	records    []byte
}

// read fills e from the bytes of a whole entry.
func (e *Entry) read(b []byte) {
	e.readHead(b)
	l := &layouts[b[2]]
	rest := b[l.head:]
	if l.neighbours > 0 {
		n := int(binary.BigEndian.Uint16(b[l.neighbours:]))
		e.neighbours, rest = rest[:n], rest[n:]
	}
	if l.burst > 0 {
		e.burst = rest
	}
	if e.Type == TypeRawGNSS {
		e.records = rest
	}
}

// readHead fills e from the fixed part of an entry.
func (e *Entry) readHead(b []byte) {
	l := &layouts[b[2]]
	e.Raw, e.Type = b, Type(b[2])
	e.UTC = binary.BigEndian.Uint32(b[3:])
	e.Hundredths, e.LastError, e.ErrorCount, e.Battery = 0, 0, 0, 0
	e.LatitudeE6, e.LongitudeE6, e.HDOPTenths, e.TTF = 0, 0, 0, 0
	e.Temperature, e.Humidity, e.Pressure, e.IMUTemperature = 0, 0, 0, 0
	e.neighbours, e.burst, e.records = nil, nil, nil
	if l.centis > 0 {
		e.Hundredths = b[l.centis]
	}
	if l.lastError > 0 {
		e.LastError = b[l.lastError]
	}
	if l.errorCount > 0 {
		e.ErrorCount = binary.BigEndian.Uint16(b[l.errorCount:])
		e.Battery = binary.BigEndian.Uint16(b[l.errorCount+2:])
	}
	if l.position > 0 {
		e.LatitudeE6 = int32(binary.BigEndian.Uint32(b[l.position:]))
		e.LongitudeE6 = int32(binary.BigEndian.Uint32(b[l.position+4:]))
		e.HDOPTenths = b[l.position+8]
	}
	if l.ttf > 0 {
		e.TTF = b[l.ttf]
	}
	if l.env > 0 {
		e.Temperature = int16(binary.BigEndian.Uint16(b[l.env:]))
		e.Humidity = binary.BigEndian.Uint32(b[l.env+2:])
		e.Pressure = binary.BigEndian.Uint32(b[l.env+6:])
	}
	if l.imuTemp > 0 {
		e.IMUTemperature = int16(binary.BigEndian.Uint16(b[l.imuTemp:]))
	}
}

// Sentinels: values that say there is no value.
const (
	noTemperature  = 0x7FFF
	noHumidity     = 0xFFFFFFFF
	noPressure     = 0xFFFFFFFF
	noHundredths   = 255
	clockUnsetFrom = 946684800 // 2000-01-01, where a clock starts that was never set
	clockUnsetTo   = clockUnsetFrom + 366*86400
	clockFailedTo  = 1_000_000 // the reference takes clocks up to here for failed reads
)

// Clock says whether the tag's clock was right as far as one can tell: false
// when reading it had failed, when it was never set, and when it is outside the
// bounds of the options.
func (e *Entry) Clock() bool {
	return e.UTC > clockFailedTo && (e.UTC < clockUnsetFrom || e.UTC >= clockUnsetTo) && e.Doubts&DoubtTime == 0
}

// Fix tells whether the entry holds a position. A tag without a fix stores 0
// in latitude, longitude and HDOP; a 0 in one of them only is a value.
func (e *Entry) Fix() bool {
	return e.Type.HasPosition() && (e.LatitudeE6 != 0 || e.LongitudeE6 != 0 || e.HDOPTenths != 0)
}

// Environment tells whether the environment sensor answered.
func (e *Entry) Environment() bool {
	return e.Type.HasEnvironment() && (e.Temperature != 0 || e.Humidity != 0 || e.Pressure != 0)
}

// TemperatureC is the temperature in °C; ok is false where it was not measured.
func (e *Entry) TemperatureC() (v float64, ok bool) {
	return float64(e.Temperature) / 100, e.Environment() && e.Temperature != noTemperature
}

// HumidityPercent is the relative humidity in %; ok is false where it was not
// measured.
func (e *Entry) HumidityPercent() (v float64, ok bool) {
	return float64(e.Humidity) / 1000, e.Environment() && e.Humidity != noHumidity
}

// PressureHPa is the air pressure in hPa; ok is false where it was not
// measured.
func (e *Entry) PressureHPa() (v float64, ok bool) {
	return float64(e.Pressure) / 100, e.Environment() && e.Pressure != noPressure
}

// Neighbours is how many tags and gateways were heard.
func (e *Entry) Neighbours() int { return len(e.neighbours) / neighbourLen }

// Neighbour is one tag or gateway that was heard: the last two bytes of its
// address (or the number it was given) and the mean signal strength in dBm.
func (e *Entry) Neighbour(i int) (id uint16, rssi int) {
	b := e.neighbours[i*neighbourLen:]
	return binary.BigEndian.Uint16(b), -int(b[2])
}

// NeighbourBytes is the length of the neighbour list in bytes.
func (e *Entry) NeighbourBytes() int { return len(e.neighbours) }

// BurstBytes is the length of the IMU burst in bytes.
func (e *Entry) BurstBytes() int { return len(e.burst) }

// Samples is how many samples the IMU burst has. Bytes of a sample that is not
// whole do not count.
func (e *Entry) Samples() int {
	if e.burst == nil {
		return 0
	}
	return len(e.burst) / layouts[e.Type].sampleLen()
}

// Sample is one sample of an IMU burst, raw. What the type does not have is 0.
type Sample struct {
	Acc, Mag, Gyro [3]int16
	Hall           int16
}

// Sample gives sample i. In the chip's FIFO the magnetometer comes first, then
// the gyroscope, then the acceleration.
func (e *Entry) Sample(i int) (s Sample) {
	sensors := layouts[e.Type].sensors
	b := e.burst[i*layouts[e.Type].sampleLen():]
	if sensors&Mag != 0 {
		s.Mag, s.Hall = xyz(b), int16(binary.LittleEndian.Uint16(b[6:]))
		b = b[8:]
	}
	if sensors&Gyro != 0 {
		s.Gyro = xyz(b)
		b = b[6:]
	}
	s.Acc = xyz(b)
	return s
}

func xyz(b []byte) [3]int16 {
	_ = b[5]
	return [3]int16{
		int16(binary.LittleEndian.Uint16(b)),
		int16(binary.LittleEndian.Uint16(b[2:])),
		int16(binary.LittleEndian.Uint16(b[4:])),
	}
}

// Epoch is the head of a raw GNSS entry.
type Epoch struct {
	TimeOfWeek  float32 // s
	Week        uint16  // GPS week
	LeapSeconds int8
	Status      uint8
	Records     int
}

// Epoch gives the head of a raw GNSS entry.
func (e *Entry) Epoch() Epoch {
	b := e.Raw
	return Epoch{
		TimeOfWeek:  math.Float32frombits(binary.LittleEndian.Uint32(b[7:])),
		Week:        binary.LittleEndian.Uint16(b[11:]),
		LeapSeconds: int8(b[13]),
		Status:      b[14],
		Records:     len(e.records) / gnssRecordLen,
	}
}

// GNSSRecord is one measurement of a raw GNSS entry, with the fields of
// UBX-RXM-RAWX.
type GNSSRecord struct {
	Pseudorange   float64 // m
	CarrierPhase  float64 // cycles
	Doppler       float32 // Hz
	CarrierNoise  float32 // dBHz
	GNSS          uint8
	Satellite     uint8
	Signal        uint8
	FrequencySlot uint8
	LockTime      uint16 // ms
	PseudorangeSD uint8
	CarrierSD     uint8
	DopplerSD     uint8
	Tracking      uint8
}

// GNSSRecord gives measurement i.
func (e *Entry) GNSSRecord(i int) GNSSRecord {
	b := e.records[i*gnssRecordLen:][:gnssRecordLen]
	return GNSSRecord{
		Pseudorange:   math.Float64frombits(binary.LittleEndian.Uint64(b)),
		CarrierPhase:  math.Float64frombits(binary.LittleEndian.Uint64(b[8:])),
		Doppler:       math.Float32frombits(binary.LittleEndian.Uint32(b[16:])),
		CarrierNoise:  math.Float32frombits(binary.LittleEndian.Uint32(b[20:])),
		GNSS:          b[24],
		Satellite:     b[25],
		Signal:        b[26],
		FrequencySlot: b[27],
		LockTime:      binary.LittleEndian.Uint16(b[28:]),
		PseudorangeSD: b[30],
		CarrierSD:     b[31],
		DopplerSD:     b[32],
		Tracking:      b[33],
	}
}

// doubts tests the values that the reference tests.
func (e *Entry) doubts(notBefore, notAfter uint32) Doubt {
	var d Doubt
	l := &layouts[e.Type]
	if !l.freeTime && (e.UTC > clockFailedTo && e.UTC < notBefore || e.UTC > notAfter) {
		d |= DoubtTime
	}
	if l.fullMinute && e.UTC%60 != 0 {
		d |= DoubtFullMinute
	}
	for i := 2; i < len(e.neighbours); i += neighbourLen {
		if e.neighbours[i] > 100 {
			d |= DoubtRSSI
			break
		}
	}
	if l.ttf > 0 && e.TTF == 0 {
		d |= DoubtTTF
	}
	return d
}

// credible tells whether every value of the head is one that a tag may store.
// It is for prefixes that stand alone, where 12 34 may be the bytes of a sample.
func (e *Entry) credible(notBefore, notAfter uint32) bool {
	l := &layouts[e.Type]
	if e.doubts(notBefore, notAfter)&^DoubtRSSI != 0 {
		return false
	}
	if e.UTC > clockFailedTo && (e.UTC < notBefore || e.UTC > notAfter) || e.UTC > 86400 && e.UTC <= clockFailedTo {
		return false
	}
	if l.centis > 0 && e.Hundredths > 99 && e.Hundredths != noHundredths {
		return false
	}
	if l.position > 0 && (e.LatitudeE6 < -90e6 || e.LatitudeE6 > 90e6 || e.LongitudeE6 < -180e6 || e.LongitudeE6 > 180e6) {
		return false
	}
	if l.errorCount > 0 && e.Battery > 6000 {
		return false
	}
	if l.env > 0 && (e.Humidity > 100_000 && e.Humidity != noHumidity ||
		e.Pressure > 130_000 && e.Pressure != noPressure ||
		(e.Temperature < -6000 || e.Temperature > 10000) && e.Temperature != noTemperature) {
		return false
	}
	if l.imuTemp > 0 && e.IMUTemperature != math.MinInt16 && (e.IMUTemperature < -6000 || e.IMUTemperature > 11000) {
		return false
	}
	if e.Type == TypeRawGNSS {
		if tow := e.Epoch().TimeOfWeek; !(tow >= 0 && tow <= 604800) {
			return false
		}
	}
	return true
}
