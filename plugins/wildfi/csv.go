// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package wildfi

import (
	"fmt"
	"strconv"
	"time"
)

// CSV writes four tables in units: entries, samples, neighbours and raw GNSS
// measurements. tag_mac and file_offset join them. A cell is empty where there is
// no value.
type CSV struct {
	Base   string // the names of the files begin with it
	Units  *Units
	Append func(name string, data []byte) error // as of ReferenceCSV

	tables [4]csvFile
}

var csvTables = [4]struct{ name, header string }{
	{"entries", "tag_mac,entry_type,utc_timestamp,time,time_start,time_end,sample_count,file_offset,flash_address,length,own_id,milliseconds,latitude,longitude,hdop,ttf_s,temperature_c,humidity_percent,pressure_hpa,imu_temperature_c,battery_v,error_count,last_error,neighbours,doubts\n"},
	{"samples", "tag_mac,file_offset,sample,time,acc_x_g,acc_y_g,acc_z_g,mag_x_ut,mag_y_ut,mag_z_ut,hall,gyro_x_dps,gyro_y_dps,gyro_z_dps\n"},
	{"neighbours", "tag_mac,file_offset,utc_timestamp,neighbour_id,rssi_dbm\n"},
	{"gnss", "tag_mac,file_offset,utc_timestamp,time_of_week_s,week,leap_seconds,receiver_status,pseudorange_m,carrier_phase_cycles,doppler_hz,carrier_noise_dbhz,gnss_id,satellite_id,signal_id,frequency_slot,lock_time_ms,pseudorange_sd,carrier_phase_sd,doppler_sd,tracking_status\n"},
}

// Write adds an entry.
func (w *CSV) Write(e *Entry) error {
	b := w.begin(0, e)
	b = w.entry(b, e)
	if err := w.end(0, b); err != nil {
		return err
	}
	if n := e.Samples(); n > 0 {
		b = w.begin(1, e)
		b = w.samples(b, e, n)
		if err := w.end(1, b); err != nil {
			return err
		}
	}
	if n := e.Neighbours(); n > 0 {
		b = w.begin(2, e)
		for i := range n {
			id, rssi := e.Neighbour(i)
			b = appendUint(w.key(b, e), uint64(e.UTC))
			b = appendID(append(b, ','), id)
			b = strconv.AppendInt(append(b, ','), int64(rssi), 10)
			b = append(b, '\n')
		}
		if err := w.end(2, b); err != nil {
			return err
		}
	}
	if e.Type == TypeRawGNSS && len(e.records) > 0 {
		b = w.begin(3, e)
		for i := range e.Epoch().Records {
			b = w.record(b, e, i)
		}
		return w.end(3, b)
	}
	return nil
}

// Close writes what is not written yet.
func (w *CSV) Close() error {
	for i := range w.tables {
		if f := &w.tables[i]; len(f.buf) > 0 {
			if err := w.flush(f); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *CSV) begin(table int, e *Entry) []byte {
	f := &w.tables[table]
	if f.name == "" {
		f.name = w.Base + "_" + csvTables[table].name + ".csv"
		f.buf = append(f.buf, csvTables[table].header...)
	}
	return f.buf
}

func (w *CSV) end(table int, b []byte) error {
	f := &w.tables[table]
	f.buf = b
	if len(b) < csvFlush {
		return nil
	}
	return w.flush(f)
}

func (w *CSV) flush(f *csvFile) error {
	if err := w.Append(f.name, f.buf); err != nil {
		return fmt.Errorf("writing %s: %w", f.name, err)
	}
	f.buf = f.buf[:0]
	return nil
}

func appendCellTime(b []byte, t time.Time, ok bool) []byte {
	if !ok {
		return b
	}
	return t.AppendFormat(b, time.RFC3339Nano)
}

// key appends the columns that join the tables.
func (w *CSV) key(b []byte, e *Entry) []byte {
	b = e.Tag.AppendTo(b, ':')
	b = strconv.AppendInt(append(b, ','), e.Offset, 10)
	return append(b, ',')
}

func (w *CSV) entry(b []byte, e *Entry) []byte {
	l := &layouts[e.Type]
	b = append(e.Tag.AppendTo(b, ':'), ',', hexDigits[e.Type>>4], hexDigits[e.Type&15], ',')
	b = appendUint(b, uint64(e.UTC))
	t, ok := e.Times(w.Units.IMUHz)
	b = appendCellTime(append(b, ','), t.Head, ok)
	b = appendCellTime(append(b, ','), t.Start, ok && (t.Sure || l.startTime))
	b = appendCellTime(append(b, ','), t.End, ok && (t.Sure || !l.startTime))
	b = appendUint(append(b, ','), uint64(e.Samples()))
	b = strconv.AppendInt(append(b, ','), e.Offset, 10)
	b = appendUint(append(b, ','), uint64(e.Address))
	b = appendUint(append(b, ','), uint64(len(e.Raw)))
	b = append(b, ',')
	if e.Product == Proximity {
		b = appendID(b, e.OwnID)
	}
	cell := func(v int64, digits int, ok bool) {
		b = append(b, ',')
		if ok {
			b = appendScaled(b, v, digits, digits)
		}
	}
	cell(int64(e.Hundredths)*10, 0, l.centis > 0 && e.Hundredths != noHundredths)
	fix := e.Fix()
	cell(int64(e.LatitudeE6), 6, fix)
	cell(int64(e.LongitudeE6), 6, fix)
	cell(int64(e.HDOPTenths), 1, fix)
	cell(int64(e.TTF), 0, l.ttf > 0)
	_, has := e.TemperatureC()
	cell(int64(e.Temperature), 2, has)
	_, has = e.HumidityPercent()
	cell(int64(e.Humidity), 3, has)
	_, has = e.PressureHPa()
	cell(int64(e.Pressure), 2, has)
	cell(int64(e.IMUTemperature), 2, l.imuTemp > 0)
	cell(int64(e.Battery), 3, l.errorCount > 0)
	cell(int64(e.ErrorCount), 0, l.errorCount > 0)
	cell(int64(e.LastError), 0, l.lastError > 0)
	cell(int64(e.Neighbours()), 0, l.neighbours > 0)
	b = append(b, ',')
	for i, name := range e.Doubts.Names() {
		if i > 0 {
			b = append(b, ' ')
		}
		b = append(b, name...)
	}
	return append(b, '\n')
}

func (w *CSV) samples(b []byte, e *Entry, n int) []byte {
	sensors, u := layouts[e.Type].sensors, w.Units
	for i := range n {
		s := e.Sample(i)
		b = strconv.AppendInt(w.key(b, e), int64(i), 10)
		t, ok := e.SampleTime(i, u.IMUHz)
		b = appendCellTime(append(b, ','), t, ok)
		for _, v := range s.Acc {
			b = u.acc.append(append(b, ','), v)
		}
		if sensors&Mag != 0 {
			for _, v := range s.Mag {
				b = u.mag.append(append(b, ','), v)
			}
			b = strconv.AppendInt(append(b, ','), int64(s.Hall), 10)
		} else {
			b = append(b, ",,,,"...)
		}
		if sensors&Gyro != 0 {
			for _, v := range s.Gyro {
				b = u.gyro.append(append(b, ','), v)
			}
		} else {
			b = append(b, ",,,"...)
		}
		b = append(b, '\n')
	}
	return b
}

func (w *CSV) record(b []byte, e *Entry, i int) []byte {
	h, r := e.Epoch(), e.GNSSRecord(i)
	b = appendUint(w.key(b, e), uint64(e.UTC))
	b = strconv.AppendFloat(append(b, ','), float64(h.TimeOfWeek), 'f', -1, 32)
	b = appendUint(append(b, ','), uint64(h.Week))
	b = strconv.AppendInt(append(b, ','), int64(h.LeapSeconds), 10)
	b = appendUint(append(b, ','), uint64(h.Status))
	b = strconv.AppendFloat(append(b, ','), r.Pseudorange, 'f', -1, 64)
	b = strconv.AppendFloat(append(b, ','), r.CarrierPhase, 'f', -1, 64)
	b = strconv.AppendFloat(append(b, ','), float64(r.Doppler), 'f', -1, 32)
	b = strconv.AppendFloat(append(b, ','), float64(r.CarrierNoise), 'f', -1, 32)
	for _, v := range []uint16{uint16(r.GNSS), uint16(r.Satellite), uint16(r.Signal), uint16(r.FrequencySlot), r.LockTime,
		uint16(r.PseudorangeSD), uint16(r.CarrierSD), uint16(r.DopplerSD), uint16(r.Tracking)} {
		b = appendUint(append(b, ','), uint64(v))
	}
	return append(b, '\n')
}
