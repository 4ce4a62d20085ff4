// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package wildfi

import (
	"math"
	"strconv"
	"time"
)

// Units converts entries to text in units. It is not safe for concurrent use.
type Units struct {
	Scale Scale
	IMUHz float64 // sampling rate of the IMU, 0 when it is not known

	acc, gyro, mag *numberTable
}

// NewUnits makes a converter.
func NewUnits(scale Scale, imuHz float64) *Units {
	const decimals = 11
	return &Units{
		Scale: scale, IMUHz: imuHz,
		acc:  newNumberTable(func(b []byte, raw int16) []byte { return appendTrimmed(b, float64(raw)*scale.Acc, decimals) }),
		gyro: newNumberTable(func(b []byte, raw int16) []byte { return appendTrimmed(b, float64(raw)*scale.Gyro, decimals) }),
		mag:  newNumberTable(func(b []byte, raw int16) []byte { return appendTrimmed(b, float64(raw)/scale.Mag, decimals) }),
	}
}

// AppendJSON appends the entry as one JSON object: what it is and where it came
// from, then AppendFields. What the tag could not measure is null.
func (u *Units) AppendJSON(b []byte, e *Entry) []byte {
	b = append(b, `{"tag_mac":"`...)
	b = e.Tag.AppendTo(b, ':')
	b = append(b, `","entry_type":"`...)
	b = append(b, hexDigits[e.Type>>4], hexDigits[e.Type&15])
	b = append(b, `","entry":"`...)
	b = append(b, e.Type.Name()...)
	b = append(b, `","utc_timestamp":`...)
	b = appendUint(b, uint64(e.UTC))
	t, ok := e.Times(u.IMUHz)
	b = append(b, `,"time":`...)
	b = appendTime(b, t.Head, ok)
	b = append(b, `,"time_start":`...)
	b = appendTime(b, t.Start, ok && (t.Sure || layouts[e.Type].startTime))
	b = append(b, `,"time_end":`...)
	b = appendTime(b, t.End, ok && (t.Sure || !layouts[e.Type].startTime))
	b = append(b, `,"sample_count":`...)
	b = appendUint(b, uint64(e.Samples()))
	b = append(b, `,"file_offset":`...)
	b = strconv.AppendInt(b, e.Offset, 10)
	b = append(b, `,"flash_address":`...)
	b = appendUint(b, uint64(e.Address))
	b = append(b, `,"length":`...)
	b = appendUint(b, uint64(len(e.Raw)))
	if e.Product == Proximity {
		b = append(b, `,"own_id":"`...)
		b = append(appendID(b, e.OwnID), '"')
	}
	if e.Doubts != 0 {
		b = append(b, `,"doubts":[`...)
		for i, name := range e.Doubts.Names() {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(append(append(b, '"'), name...), '"')
		}
		b = append(b, ']')
	}
	b = u.AppendFields(append(b, ','), e)
	if b[len(b)-1] == ',' {
		b = b[:len(b)-1]
	}
	return append(b, '}')
}

func appendTime(b []byte, t time.Time, ok bool) []byte {
	if !ok {
		return append(b, "null"...)
	}
	b = append(b, '"')
	b = t.AppendFormat(b, time.RFC3339Nano)
	return append(b, '"')
}

// AppendFields appends what the tag measured as members of a JSON object,
// without braces.
func (u *Units) AppendFields(b []byte, e *Entry) []byte { return u.appendFields(b, e, true) }

// appendFields leaves out an empty burst where bursts is false.
func (u *Units) appendFields(b []byte, e *Entry, bursts bool) []byte {
	l := &layouts[e.Type]
	from := len(b)
	if l.centis > 0 {
		b = append(b, `"milliseconds":`...)
		if e.Hundredths == noHundredths {
			b = append(b, "null,"...)
		} else {
			b = append(appendUint(b, uint64(e.Hundredths)*10), ',')
		}
	}
	if l.position > 0 {
		if e.Fix() {
			b = appendScaled(append(b, `"latitude":`...), int64(e.LatitudeE6), 6, 6)
			b = appendScaled(append(b, `,"longitude":`...), int64(e.LongitudeE6), 6, 6)
			b = appendScaled(append(b, `,"hdop":`...), int64(e.HDOPTenths), 1, 1)
		} else {
			b = append(b, `"latitude":null,"longitude":null,"hdop":null`...)
		}
		b = append(b, ',')
	}
	if l.ttf > 0 {
		b = append(appendUint(append(b, `"ttf_s":`...), uint64(e.TTF)), ',')
	}
	if l.env > 0 {
		_, ok := e.TemperatureC()
		b = appendNumber(append(b, `"temperature_c":`...), int64(e.Temperature), 2, ok)
		_, ok = e.HumidityPercent()
		b = appendNumber(append(b, `,"humidity_percent":`...), int64(e.Humidity), 3, ok)
		_, ok = e.PressureHPa()
		b = appendNumber(append(b, `,"pressure_hpa":`...), int64(e.Pressure), 2, ok)
		b = append(b, ',')
	}
	if l.imuTemp > 0 {
		b = append(appendScaled(append(b, `"imu_temperature_c":`...), int64(e.IMUTemperature), 2, 2), ',')
	}
	if l.errorCount > 0 {
		b = appendScaled(append(b, `"battery_v":`...), int64(e.Battery), 3, 3)
		b = appendUint(append(b, `,"error_count":`...), uint64(e.ErrorCount))
		b = append(b, ',')
	}
	if l.lastError > 0 {
		b = append(appendUint(append(b, `"last_error":`...), uint64(e.LastError)), ',')
	}
	if l.neighbours > 0 {
		b = append(b, `"neighbours":[`...)
		for i := range e.Neighbours() {
			id, rssi := e.Neighbour(i)
			b = append(b, `{"id":"`...)
			b = appendID(b, id)
			b = append(b, `","rssi_dbm":`...)
			b = strconv.AppendInt(b, int64(rssi), 10)
			b = append(b, "},"...)
		}
		b = append(endList(b), ',')
	}
	if l.sensors != 0 && bursts {
		b = u.appendBurst(b, e, l.sensors)
	}
	if e.Type == TypeRawGNSS {
		b = append(appendGNSS(b, e), ',')
	}
	if len(b) > from {
		b = b[:len(b)-1]
	}
	return b
}

func appendNumber(b []byte, v int64, digits int, ok bool) []byte {
	if !ok {
		return append(b, "null"...)
	}
	return appendScaled(b, v, digits, digits)
}

// endList closes a list whose elements end in a comma.
func endList(b []byte) []byte {
	if b[len(b)-1] == ',' {
		b = b[:len(b)-1]
	}
	return append(b, ']')
}

func (u *Units) appendBurst(b []byte, e *Entry, sensors Sensors) []byte {
	n, size := e.Samples(), layouts[e.Type].sampleLen()
	at := 0
	if sensors&Mag != 0 {
		b = append(b, `"mag_ut":[`...)
		for i := range n {
			b = u.appendXYZ(b, u.mag, e.burst[i*size:])
		}
		b = append(endList(b), `,"hall":[`...)
		for i := range n {
			hall := int16(uint16(e.burst[i*size+6]) | uint16(e.burst[i*size+7])<<8)
			b = append(strconv.AppendInt(b, int64(hall), 10), ',')
		}
		b = append(endList(b), ',')
		at = 8
	}
	if sensors&Gyro != 0 {
		b = append(b, `"gyro_dps":[`...)
		for i := range n {
			b = u.appendXYZ(b, u.gyro, e.burst[i*size+at:])
		}
		b = append(endList(b), ',')
		at += 6
	}
	b = append(b, `"acc_g":[`...)
	for i := range n {
		b = u.appendXYZ(b, u.acc, e.burst[i*size+at:])
	}
	return append(endList(b), ',')
}

func (u *Units) appendXYZ(b []byte, t *numberTable, raw []byte) []byte {
	v := xyz(raw)
	b = append(b, '[')
	b = append(t.append(b, v[0]), ',')
	b = append(t.append(b, v[1]), ',')
	b = t.append(b, v[2])
	return append(b, ']', ',')
}

func appendFloat(b []byte, v float64, bits int) []byte {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return append(b, "null"...)
	}
	return strconv.AppendFloat(b, v, 'g', -1, bits)
}

func appendGNSS(b []byte, e *Entry) []byte {
	h := e.Epoch()
	b = appendFloat(append(b, `"gnss":{"time_of_week_s":`...), float64(h.TimeOfWeek), 32)
	b = appendUint(append(b, `,"week":`...), uint64(h.Week))
	b = strconv.AppendInt(append(b, `,"leap_seconds":`...), int64(h.LeapSeconds), 10)
	b = appendUint(append(b, `,"receiver_status":`...), uint64(h.Status))
	b = append(b, `,"measurements":[`...)
	for i := range h.Records {
		r := e.GNSSRecord(i)
		b = appendFloat(append(b, `{"pseudorange_m":`...), r.Pseudorange, 64)
		b = appendFloat(append(b, `,"carrier_phase_cycles":`...), r.CarrierPhase, 64)
		b = appendFloat(append(b, `,"doppler_hz":`...), float64(r.Doppler), 32)
		b = appendFloat(append(b, `,"carrier_noise_dbhz":`...), float64(r.CarrierNoise), 32)
		for _, f := range []struct {
			name  string
			value uint64
		}{
			{"gnss_id", uint64(r.GNSS)}, {"satellite_id", uint64(r.Satellite)}, {"signal_id", uint64(r.Signal)},
			{"frequency_slot", uint64(r.FrequencySlot)}, {"lock_time_ms", uint64(r.LockTime)},
			{"pseudorange_sd", uint64(r.PseudorangeSD)}, {"carrier_phase_sd", uint64(r.CarrierSD)},
			{"doppler_sd", uint64(r.DopplerSD)}, {"tracking_status", uint64(r.Tracking)},
		} {
			b = append(append(append(b, `,"`...), f.name...), `":`...)
			b = appendUint(b, f.value)
		}
		b = append(b, "},"...)
	}
	return append(endList(b), '}')
}
