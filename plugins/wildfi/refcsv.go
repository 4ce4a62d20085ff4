// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package wildfi

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// Flavour is one of the two reference decoders, which differ in one column.
type Flavour uint8

// The reference decoders.
const (
	Standalone    Flavour = iota // V7.2
	Multithreaded                // V8.0: accelerations of the burst form without zeros at the end
)

// ParseFlavour reads standalone or multithreaded.
func ParseFlavour(text string) (Flavour, error) {
	switch text {
	case "standalone":
		return Standalone, nil
	case "multithreaded":
		return Multithreaded, nil
	}
	return 0, fmt.Errorf("reading flavour %q: it is none of standalone, multithreaded", text)
}

// ReferenceCSV writes the files of the reference decoders, byte for byte, so that
// scripts made for them keep working: their columns, their order of values, their
// rounding. It leaves out what they do not return (the types 5B, 5D and 5F, and
// entries with doubts) and their faults.
type ReferenceCSV struct {
	// Base begins the names of the files: the name of the log without its .bin.
	Base string
	// Split writes a line a sample or neighbour, else a line an entry.
	Split   bool
	Flavour Flavour
	Scale   Scale
	IMUHz   int // only repeated in a column
	// Append adds to a file, and makes it when it was not written before.
	Append func(name string, data []byte) error

	files    map[csvKey]*csvFile
	ordered  []*csvFile
	last     csvKey
	lastFile *csvFile

	acc, accBurst, gyro, mag *numberTable
	factors                  map[Sensors][]byte
	day                      int64
	date                     []byte
	head, ids                []byte
}

type csvKey struct {
	tag MAC
	typ Type
}

type csvFile struct {
	name string
	buf  []byte
}

const csvFlush = 64 << 10

// Skipped tells whether the reference decoders do not return the entry.
func (*ReferenceCSV) Skipped(e *Entry) bool {
	return e.Doubts != 0 || e.Type == TypeGPSAccGyro || e.Type == TypeGPSAcc || e.Type == TypeAccGyro
}

// Write adds an entry.
func (w *ReferenceCSV) Write(e *Entry) error {
	if w.Skipped(e) {
		return nil
	}
	f := w.lastFile
	if k := (csvKey{e.Tag, e.Type}); f == nil || w.last != k {
		if f = w.files[k]; f == nil {
			f = w.open(k)
		}
		w.last, w.lastFile = k, f
	}
	if w.Split {
		f.buf = w.split(f.buf, e)
	} else {
		f.buf = w.burst(f.buf, e)
	}
	if len(f.buf) >= csvFlush {
		return w.flush(f)
	}
	return nil
}

// Close writes what is not written yet.
func (w *ReferenceCSV) Close() error {
	for _, f := range w.ordered {
		if err := w.flush(f); err != nil {
			return err
		}
	}
	return nil
}

func (w *ReferenceCSV) flush(f *csvFile) error {
	if len(f.buf) == 0 {
		return nil
	}
	if err := w.Append(f.name, f.buf); err != nil {
		return fmt.Errorf("writing %s: %w", f.name, err)
	}
	f.buf = f.buf[:0]
	return nil
}

func (w *ReferenceCSV) open(k csvKey) *csvFile {
	if w.files == nil {
		w.files = map[csvKey]*csvFile{}
		w.acc = newNumberTable(func(b []byte, raw int16) []byte { return appendFixed(b, float64(raw)*w.Scale.Acc, 11) })
		w.accBurst = w.acc
		if w.Flavour == Multithreaded {
			w.accBurst = newNumberTable(func(b []byte, raw int16) []byte { return appendTrimmed(b, float64(raw)*w.Scale.Acc, 11) })
		}
		w.gyro = newNumberTable(func(b []byte, raw int16) []byte { return appendFixed(b, float64(raw)*w.Scale.Gyro, 4) })
		w.mag = newNumberTable(func(b []byte, raw int16) []byte { return appendFixed(b, float64(raw)/w.Scale.Mag, 4) })
		w.factors = map[Sensors][]byte{}
		w.day = math.MinInt64
	}
	name := []byte(w.Base)
	name = append(name, '_')
	name = k.tag.AppendTo(name, '_')
	if !w.Split {
		name = append(name, "_burstFormat"...)
	}
	name = append(name, "_1234"...)
	f := &csvFile{name: string(append(name, k.typ.String()...)) + ".csv"}
	f.buf = w.header(f.buf, k.typ)
	w.files[k] = f
	w.ordered = append(w.ordered, f)
	return f
}

var rawGNSSColumns = "pseudorange,carrierphase,dopplershift,carriertonoiseratio,gnssid,satid,signalid,frequencyslot,carrierphaselocktimecounter,pseudorangestddev,carrierphasestddev,dopplershiftstddev,trackingstatus"

const envColumns = "temperatureInDegCel,humidityInPercent,pressureInHPA"

func headColumns(t Type) string {
	const prox = "id,prefixDataType,tagId,utcTimestamp,utcDate,"
	const move = "prefixDataType,tagId,utcTimestamp,utcDate,"
	switch t {
	case TypeGPSAccREV5:
		return move + "lastErrorId,fifoLen,lat,lon,hdop,accAvgXinG,accAvgYinG,accAvgZinG,accAvgMagnitudeInG,accMagnitudeSumWithoutEarthGravitation"
	case TypeGPSAccMagGyro, TypeGPSAccMag:
		return move + "milliseconds,lastErrorId,lat,lon,hdop," + envColumns + ",temperatureBmxInDegCel,fifoLen"
	case TypeAccMagGyro, TypeAccMag, TypeAcc:
		return move + "milliseconds,lastErrorId,errorCount,batteryVoltage," + envColumns + ",temperatureBmxInDegCel,fifoLen"
	case TypeGPS:
		return prox + "lat,lon,hdop,ttfSeconds"
	case TypeProximity:
		return prox + "proxLen"
	case TypeProximityAcc, TypeProximity9Axis:
		return prox + "proxLen,fifoLen"
	case TypeProximityEnv:
		return prox + envColumns + ",proxLen"
	case TypeProximityAccEnv, TypeProximity9AxisEnv:
		return prox + envColumns + ",proxLen,fifoLen"
	}
	return prox + "receiverTimeOfWeekInSec,gpsWeekNumber,gpsLeapSeconds,receiverTrackingStatusBitField,measurementLen,observationLen"
}

func (w *ReferenceCSV) header(b []byte, t Type) []byte {
	l := &layouts[t]
	b = append(b, headColumns(t)...)
	if l.neighbours > 0 {
		if w.Split {
			b = append(b, ",proxId,proxRssi"...)
		} else {
			b = append(b, ",proxIdBurst,proxRssiBurst"...)
		}
	}
	if t == TypeRawGNSS {
		b = append(append(b, ','), rawGNSSColumns...)
	}
	if l.sensors != 0 {
		switch {
		case w.Split && l.neighbours > 0:
			b = append(b, "\nconsecutiveNumber,accXinG,accYinG,accZinG"...)
		case w.Split:
			b = append(b, ",consecutiveNumber,accXinG,accYinG,accZinG"...)
		default:
			b = append(b, ",consecutiveNumberBurst,accInGBurst"...)
		}
		if l.sensors&Mag != 0 {
			if w.Split {
				b = append(b, ",magXinUT,magYinUT,magZinUT,hall"...)
			} else {
				b = append(b, ",magInUTBurst,hallBurst"...)
			}
		}
		if l.sensors&Gyro != 0 {
			if w.Split {
				b = append(b, ",gyroXinDPS,gyroYinDPS,gyroZinDPS"...)
			} else {
				b = append(b, ",gyroInDPSBurst"...)
			}
		}
		b = append(b, ",accConvFact"...)
		if l.sensors&Mag != 0 {
			b = append(b, ",magConvFact"...)
		}
		if l.sensors&Gyro != 0 {
			b = append(b, ",gyroConvFact"...)
		}
		if !w.Split {
			b = append(b, ",imuFreqHz,axes"...)
		}
	}
	return append(b, '\n')
}

// appendFactors appends the conversion factors with a comma before each.
func (w *ReferenceCSV) appendFactors(b []byte, sensors Sensors) []byte {
	text := w.factors[sensors]
	if text == nil {
		text = appendFixed(append(text, ','), w.Scale.Acc, 11)
		if sensors&Mag != 0 {
			text = appendFixed(append(text, ','), w.Scale.Mag, 11)
		}
		if sensors&Gyro != 0 {
			text = appendFixed(append(text, ','), w.Scale.Gyro, 11)
		}
		w.factors[sensors] = text
	}
	return append(b, text...)
}

func appendID(b []byte, id uint16) []byte {
	return append(b, hexDigits[id>>12], hexDigits[id>>8&15], hexDigits[id>>4&15], hexDigits[id&15])
}

// appendDate appends dd.MM.yy HH:mm:ss.
func (w *ReferenceCSV) appendDate(b []byte, utc uint32) []byte {
	if day := int64(utc / 86400); day != w.day {
		w.day = day
		w.date = time.Unix(int64(utc), 0).UTC().AppendFormat(w.date[:0], "02.01.06 ")
	}
	s := utc % 86400
	two := func(v uint32) { b = append(b, byte('0'+v/10), byte('0'+v%10)) }
	b = append(b, w.date...)
	two(s / 3600)
	b = append(b, ':')
	two(s / 60 % 60)
	b = append(b, ':')
	two(s % 60)
	return b
}

func appendOrNA(b []byte, v int64, digits, decimals int) []byte {
	if v == 0 {
		return append(b, "NA"...)
	}
	return appendScaled(b, v, digits, decimals)
}

func appendUint(b []byte, v uint64) []byte { return strconv.AppendUint(b, v, 10) }

// appendHead appends the head of an entry.
func (w *ReferenceCSV) appendHead(b []byte, e *Entry) []byte {
	l := &layouts[e.Type]
	own := l.neighbours > 0 || e.Type == TypeGPS || e.Type == TypeRawGNSS
	if own {
		if e.Product == Proximity {
			b = appendID(b, e.OwnID)
		}
		b = append(b, ',')
	}
	b = append(b, "1234"...)
	b = append(b, hexDigits[e.Type>>4], hexDigits[e.Type&15], ',')
	b = appendID(b, uint16(e.Tag[4])<<8|uint16(e.Tag[5]))
	b = append(b, ',')
	b = appendUint(b, uint64(e.UTC))
	b = append(b, ',')
	b = w.appendDate(b, e.UTC)
	if l.centis > 0 {
		b = appendUint(append(b, ','), uint64(e.Hundredths)*10)
	}
	if l.lastError > 0 {
		b = appendUint(append(b, ','), uint64(e.LastError))
	}
	if l.errorCount > 0 {
		b = appendUint(append(b, ','), uint64(e.ErrorCount))
		b = appendScaled(append(b, ','), int64(e.Battery), 3, 3)
	}
	if l.position > 0 {
		b = appendOrNA(append(b, ','), int64(e.LatitudeE6), 6, 7)
		b = appendOrNA(append(b, ','), int64(e.LongitudeE6), 6, 7)
		b = appendOrNA(append(b, ','), int64(e.HDOPTenths), 1, 1)
	}
	if l.ttf > 0 {
		b = appendUint(append(b, ','), uint64(e.TTF))
	}
	if l.env > 0 {
		b = appendScaled(append(b, ','), int64(e.Temperature), 2, 3)
		b = appendScaled(append(b, ','), int64(e.Humidity), 3, 3)
		b = appendScaled(append(b, ','), int64(e.Pressure), 2, 3)
	}
	if l.imuTemp > 0 {
		b = appendScaled(append(b, ','), int64(e.IMUTemperature), 2, 3)
	}
	if l.neighbours > 0 {
		b = appendUint(append(b, ','), uint64(len(e.neighbours)))
	}
	if l.burst > 0 {
		b = appendUint(append(b, ','), uint64(len(e.burst)))
	}
	switch e.Type {
	case TypeGPSAccREV5:
		b = w.appendMeans(b, e)
	case TypeRawGNSS:
		h := e.Epoch()
		b = appendFixed(append(b, ','), float64(h.TimeOfWeek), 10)
		b = appendUint(append(b, ','), uint64(h.Week))
		b = appendUint(append(b, ','), uint64(uint8(h.LeapSeconds)))
		b = appendUint(append(b, ','), uint64(h.Status))
		b = appendUint(append(b, ','), uint64(h.Records))
		b = appendUint(append(b, ','), gnssRecordLen)
	}
	return b
}

// appendMeans appends the mean acceleration of a burst, its length, and a column
// that is always 0.
func (w *ReferenceCSV) appendMeans(b []byte, e *Entry) []byte {
	var sum [3]float64
	n := e.Samples()
	for i := range n {
		for axis, v := range e.Sample(i).Acc {
			sum[axis] += float64(v) * w.Scale.Acc
		}
	}
	square := 0.0
	for _, v := range sum {
		if n > 0 {
			v /= float64(n)
		}
		square += v * v
		b = appendFixed(append(b, ','), v, 7)
	}
	b = appendFixed(append(b, ','), math.Sqrt(square), 7)
	return append(b, ",0.000"...)
}

func (w *ReferenceCSV) appendSample(b []byte, e *Entry, i int, sensors Sensors) []byte {
	s := e.Sample(i)
	b = strconv.AppendInt(b, int64(i), 10)
	for _, v := range s.Acc {
		b = w.acc.append(append(b, ','), v)
	}
	if sensors&Mag != 0 {
		for _, v := range s.Mag {
			b = w.mag.append(append(b, ','), v)
		}
		b = strconv.AppendInt(append(b, ','), int64(s.Hall), 10)
	}
	if sensors&Gyro != 0 {
		for _, v := range s.Gyro {
			b = w.gyro.append(append(b, ','), v)
		}
	}
	return w.appendFactors(b, sensors)
}

// emptyHeads are the head cells of all lines of a burst but the last.
func emptyHead(t Type) string {
	switch t {
	case TypeGPSAccREV5:
		return ",,,,,,,,,,,,,,"
	case TypeGPSAccMagGyro, TypeGPSAccMag:
		return ",,,,,,,,,,,,,,"
	}
	return ",,,,,,,,,,,,,"
}

func (w *ReferenceCSV) split(b []byte, e *Entry) []byte {
	l := &layouts[e.Type]
	n := e.Samples()
	if l.sensors != 0 && l.neighbours == 0 {
		if n == 0 {
			return append(b, '\n')
		}
		empty := emptyHead(e.Type)
		for i := range n - 1 {
			b = append(b, "1234"...)
			b = append(b, hexDigits[e.Type>>4], hexDigits[e.Type&15])
			b = append(b, empty...)
			b = w.appendSample(b, e, i, l.sensors)
			b = append(b, '\n')
		}
		b = append(w.appendHead(b, e), ',')
		b = w.appendSample(b, e, n-1, l.sensors)
		return append(b, '\n')
	}
	for i := range n {
		b = w.appendSample(b, e, i, l.sensors)
		b = append(b, '\n')
	}
	w.head = w.appendHead(w.head[:0], e)
	switch {
	case e.Type == TypeRawGNSS:
		records := len(e.records) / gnssRecordLen
		for i := range records {
			b = append(b, w.head...)
			b = appendRecord(b, e.GNSSRecord(i))
			b = append(b, '\n')
		}
		if records == 0 {
			b = append(b, w.head...)
			b = append(b, ",,,,,,,,,,,,,\n"...)
		}
		return b
	case l.neighbours == 0:
		return append(append(b, w.head...), '\n')
	case e.Neighbours() == 0:
		return append(append(b, w.head...), ",,\n"...)
	}
	for i := range e.Neighbours() {
		id, rssi := e.Neighbour(i)
		b = append(append(b, w.head...), ',')
		b = appendID(b, id)
		b = strconv.AppendInt(append(b, ','), int64(rssi), 10)
		b = append(b, '\n')
	}
	return b
}

func appendRecord(b []byte, r GNSSRecord) []byte {
	for k := range gnssColumns {
		b = appendColumn(append(b, ','), r, k)
	}
	return b
}

const gnssColumns = 13

func appendColumn(b []byte, r GNSSRecord, column int) []byte {
	switch column {
	case 0:
		return appendFixed(b, r.Pseudorange, 10)
	case 1:
		return appendFixed(b, r.CarrierPhase, 10)
	case 2:
		return appendFixed(b, float64(r.Doppler), 10)
	case 3:
		return appendFixed(b, float64(r.CarrierNoise), 10)
	case 8:
		return strconv.AppendInt(b, int64(int16(r.LockTime)), 10) // signed, as the reference reads it
	case 12:
		return strconv.AppendUint(b, uint64(r.Tracking), 2)
	}
	return appendUint(b, uint64([...]uint8{4: r.GNSS, r.Satellite, r.Signal, r.FrequencySlot, 0, r.PseudorangeSD, r.CarrierSD, r.DopplerSD}[column]))
}

func (w *ReferenceCSV) burst(b []byte, e *Entry) []byte {
	l := &layouts[e.Type]
	b = w.appendHead(b, e)
	if l.neighbours > 0 {
		b = append(b, ',')
		w.ids = w.ids[:0]
		for i := range e.Neighbours() {
			id, rssi := e.Neighbour(i)
			if i > 0 {
				b = append(b, ' ')
				w.ids = append(w.ids, ' ')
			}
			b = appendID(b, id)
			w.ids = strconv.AppendInt(w.ids, int64(rssi), 10)
		}
		b = append(b, ',')
		b = append(b, w.ids...)
	}
	if e.Type == TypeRawGNSS {
		records := len(e.records) / gnssRecordLen
		for k := range gnssColumns {
			b = append(b, ',')
			for i := range records {
				if i > 0 {
					b = append(b, ' ')
				}
				b = appendColumn(b, e.GNSSRecord(i), k)
			}
		}
	}
	if l.sensors != 0 {
		switch n := e.Samples(); {
		case n > 0:
			b = w.appendBurst(append(b, ','), e, n, l.sensors)
		case l.neighbours > 0:
			b = append(b, ",,,"...)
		default:
			b = append(b, ',')
		}
		b = strconv.AppendInt(append(b, ','), int64(w.IMUHz), 10)
		b = append(b, ",XYZ"...)
	}
	return append(b, '\n')
}

func (w *ReferenceCSV) appendBurst(b []byte, e *Entry, n int, sensors Sensors) []byte {
	for i := range n {
		b = append(strconv.AppendInt(b, int64(i), 10), ' ')
	}
	b[len(b)-1] = ','
	for i := range n {
		for _, v := range e.Sample(i).Acc {
			b = append(w.accBurst.append(b, v), ' ')
		}
	}
	if sensors&Mag != 0 {
		b[len(b)-1] = ','
		for i := range n {
			for _, v := range e.Sample(i).Mag {
				b = append(w.mag.append(b, v), ' ')
			}
		}
		b[len(b)-1] = ','
		for i := range n {
			b = append(strconv.AppendInt(b, int64(e.Sample(i).Hall), 10), ' ')
		}
	}
	if sensors&Gyro != 0 {
		b[len(b)-1] = ','
		for i := range n {
			for _, v := range e.Sample(i).Gyro {
				b = append(w.gyro.append(b, v), ' ')
			}
		}
	}
	return w.appendFactors(b[:len(b)-1], sensors)
}
