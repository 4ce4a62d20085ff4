// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package wildfi

import (
	"encoding/binary"
	"fmt"
)

// MAC is the radio address of a tag.
type MAC [6]byte

const hexDigits = "0123456789ABCDEF"

// String gives the address as it is printed on tags: 58:BF:25:9A:74:40.
func (m MAC) String() string { return string(m.AppendTo(nil, ':')) }

// AppendTo appends the address in upper-case hexadecimal with sep between the
// bytes.
func (m MAC) AppendTo(b []byte, sep byte) []byte {
	for i, c := range m {
		if i > 0 {
			b = append(b, sep)
		}
		b = append(b, hexDigits[c>>4], hexDigits[c&15])
	}
	return b
}

// Product is the family of firmware that wrote a log. The file does not name
// it; the messages of proximity tags carry two bytes more.
type Product uint8

// The products.
const (
	ProductAuto Product = iota // found out for each tag
	Movement                   // hdLogger: no own id in messages
	Proximity                  // proxLogger: a 2-byte own id before the log bytes
)

// String names the product.
func (p Product) String() string {
	switch p {
	case Movement:
		return "movement"
	case Proximity:
		return "proximity"
	}
	return "auto"
}

// ParseProduct reads the name of a product: auto, movement or proximity.
func ParseProduct(text string) (Product, error) {
	for p := ProductAuto; p <= Proximity; p++ {
		if text == p.String() {
			return p, nil
		}
	}
	return 0, fmt.Errorf("reading product %q: it is none of auto, movement, proximity", text)
}

// Type is the third byte of an entry, which says what the entry holds.
type Type uint8

// The types of entries. Those with an IMU burst end in the sensors it has.
const (
	TypeGPSAccREV5        Type = 0x56
	TypeProximity         Type = 0x57
	TypeGPS               Type = 0x58
	TypeGPSAccMagGyro     Type = 0x5A
	TypeGPSAccGyro        Type = 0x5B
	TypeGPSAccMag         Type = 0x5C
	TypeGPSAcc            Type = 0x5D
	TypeAccMagGyro        Type = 0x5E
	TypeAccGyro           Type = 0x5F
	TypeAccMag            Type = 0x60
	TypeAcc               Type = 0x61
	TypeProximityAcc      Type = 0x62
	TypeProximityEnv      Type = 0x63
	TypeProximityAccEnv   Type = 0x64
	TypeProximity9Axis    Type = 0x65
	TypeProximity9AxisEnv Type = 0x66
	TypeRawGNSS           Type = 0x72
	prefix0, prefix1           = 0x12, 0x34
	prefixLen                  = 3
	maxNeighbourBytes          = 512
	maxBurstBytes              = 8192
	maxGNSSRecords             = 50
	gnssRecordLen              = 34
	maxEntryLen                = 32 + maxNeighbourBytes + maxBurstBytes
	neighbourLen               = 3
	unwrittenRun               = 12 // so many FF in a row are flash that was never written
	unwrittenInBurst           = 24 // and so many are so inside a burst, where a few may be samples
)

// String gives the type as two upper-case hexadecimal digits.
func (t Type) String() string { return string([]byte{hexDigits[t>>4], hexDigits[t&15]}) }

// Sensors is the set of IMU sensors in a burst.
type Sensors uint8

// The IMU sensors.
const (
	Acc Sensors = 1 << iota
	Mag
	Gyro
)

// layout is where the fields of a type lie, as offsets from the entry's first
// byte; 0 where a type has no such field. All have the time at 3.
type layout struct {
	known      bool
	name       string
	head       int // length of the fixed part
	centis     int // hundredths of a second, followed by the last error id
	lastError  int
	errorCount int // followed by the battery voltage
	position   int // latitude, longitude, HDOP
	ttf        int
	env        int // temperature, humidity, pressure
	imuTemp    int
	neighbours int // length of the neighbour list
	burst      int // length of the burst
	sensors    Sensors
	startTime  bool // the time is that of the burst's start, else of its end
	freeTime   bool // the reference does not test the time
	fullMinute bool // the time is a whole minute
}

func (l *layout) sampleLen() int {
	n := 0
	if l.sensors&Acc != 0 {
		n += 6
	}
	if l.sensors&Mag != 0 {
		n += 8
	}
	if l.sensors&Gyro != 0 {
		n += 6
	}
	return n
}

var layouts = func() (ls [256]layout) {
	for t, sensors := range map[Type]Sensors{
		TypeGPSAccMagGyro: Acc | Mag | Gyro, TypeGPSAccGyro: Acc | Gyro, TypeGPSAccMag: Acc | Mag, TypeGPSAcc: Acc,
	} {
		ls[t] = layout{name: "gps+imu", head: 32, centis: 7, lastError: 8, position: 9, env: 18, imuTemp: 28, burst: 30, sensors: sensors, freeTime: true}
	}
	for t, sensors := range map[Type]Sensors{
		TypeAccMagGyro: Acc | Mag | Gyro, TypeAccGyro: Acc | Gyro, TypeAccMag: Acc | Mag, TypeAcc: Acc,
	} {
		ls[t] = layout{name: "imu", head: 27, centis: 7, lastError: 8, errorCount: 9, env: 13, imuTemp: 23, burst: 25, sensors: sensors}
	}
	ls[TypeGPSAccREV5] = layout{name: "gps+imu", head: 19, lastError: 7, position: 8, burst: 17, sensors: Acc}
	ls[TypeGPS] = layout{name: "gps", head: 17, position: 7, ttf: 16}
	ls[TypeProximity] = layout{name: "proximity", head: 9, neighbours: 7}
	ls[TypeProximityEnv] = layout{name: "proximity+env", head: 19, env: 7, neighbours: 17}
	ls[TypeProximityAcc] = layout{name: "proximity+imu", head: 11, neighbours: 7, burst: 9, sensors: Acc}
	ls[TypeProximity9Axis] = layout{name: "proximity+imu", head: 11, neighbours: 7, burst: 9, sensors: Acc | Mag | Gyro}
	ls[TypeProximityAccEnv] = layout{name: "proximity+env+imu", head: 21, env: 7, neighbours: 17, burst: 19, sensors: Acc}
	ls[TypeProximity9AxisEnv] = layout{name: "proximity+env+imu", head: 21, env: 7, neighbours: 17, burst: 19, sensors: Acc | Mag | Gyro}
	ls[TypeRawGNSS] = layout{name: "raw-gnss", head: 17, freeTime: true}
	for t := range ls {
		l := &ls[t]
		l.known = l.head > 0
		l.fullMinute = l.neighbours > 0
		l.startTime = l.neighbours > 0
	}
	return ls
}()

// Known tells whether t is a type of entry.
func (t Type) Known() bool { return layouts[t].known }

// Name says in words what an entry of the type holds.
func (t Type) Name() string { return layouts[t].name }

// Sensors gives the IMU sensors of the type's burst, 0 where it has none.
func (t Type) Sensors() Sensors { return layouts[t].sensors }

// HasPosition tells whether entries of the type hold a position.
func (t Type) HasPosition() bool { return layouts[t].position > 0 }

// HasEnvironment tells whether entries of the type hold temperature, humidity
// and air pressure.
func (t Type) HasEnvironment() bool { return layouts[t].env > 0 }

// HasBattery tells whether entries of the type hold the battery's voltage.
func (t Type) HasBattery() bool { return layouts[t].errorCount > 0 }

// HasNeighbours tells whether entries of the type list neighbours.
func (t Type) HasNeighbours() bool { return layouts[t].neighbours > 0 }

func isPrefix(b []byte) bool {
	return len(b) >= prefixLen && b[0] == prefix0 && b[1] == prefix1 && layouts[b[2]].known
}

// entryLen gives the length of the entry that begins with a known prefix, as
// its head says; complete is false when the head itself is not all there. A
// length that cannot be is 0, with the reason.
func entryLen(b []byte) (n int, complete bool, reason Reason) {
	l := &layouts[b[2]]
	if len(b) < l.head {
		return l.head, false, 0
	}
	n = l.head
	if l.neighbours > 0 {
		list := int(binary.BigEndian.Uint16(b[l.neighbours:]))
		if list > maxNeighbourBytes {
			return 0, true, ReasonNeighbourLength
		}
		n += list
	}
	if l.burst > 0 {
		burst := int(binary.BigEndian.Uint16(b[l.burst:]))
		if burst > maxBurstBytes {
			return 0, true, ReasonBurstLength
		}
		n += burst
	}
	if Type(b[2]) == TypeRawGNSS {
		count, size := int(b[15]), int(b[16])
		if count > maxGNSSRecords || size != gnssRecordLen {
			return 0, true, ReasonRecordLength
		}
		n += count * size
	}
	return n, true, 0
}
