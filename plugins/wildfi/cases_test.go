// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package wildfi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// testCase is one folder of testdata/cases: a log, what was put into it, and
// what the reference decoder made of it.
type testCase struct {
	Name     string `json:"name"`
	Mode     int    `json:"mode"`
	IMUFreq  int    `json:"imu_freq"`
	Manifest map[string]struct {
		Status string `json:"status"`
		Files  map[string]struct {
			SHA256 string `json:"sha256"`
			Bytes  int    `json:"bytes"`
		} `json:"files"`
	}
	Dir    string  `json:"-"`
	Input  []byte  `json:"-"`
	Config []byte  `json:"-"` // nil where the run had none
	Truth  []truth `json:"-"`
}

// truth is one entry as it was put into the log.
type truth struct {
	Type    string      `json:"type"`
	State   string      `json:"state"`
	Tag     string      `json:"tag"`
	UTC     uint32      `json:"utc"`
	Centis  uint8       `json:"centis"`
	Err     uint8       `json:"err"`
	ErrCnt  uint16      `json:"errcnt"`
	Batt    uint16      `json:"batt"`
	Lat     int32       `json:"lat"`
	Lon     int32       `json:"lon"`
	HDOP    uint8       `json:"hdop"`
	TTF     uint8       `json:"ttf"`
	Temp    int16       `json:"temp"`
	Hum     uint32      `json:"hum"`
	Pres    uint32      `json:"pres"`
	TempBMX int16       `json:"tempbmx"`
	FIFO    int         `json:"fifo_len"`
	Prox    [][2]any    `json:"prox"`
	Samples [][]int16   `json:"samples"`
	Len     int         `json:"len"`
	TOW     float64     `json:"tow"`
	Week    uint16      `json:"week"`
	Leap    int8        `json:"leap"`
	Status  uint8       `json:"recstat"`
	Obs     [][]float64 `json:"obs"`
}

// key is all of an entry that the test compares, as text.
func (t truth) key() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s utc=%d cs=%d err=%d cnt=%d batt=%d pos=%d,%d,%d ttf=%d env=%d,%d,%d,%d burst=%d len=%d",
		t.Tag, t.Type, t.UTC, t.Centis, t.Err, t.ErrCnt, t.Batt, t.Lat, t.Lon, t.HDOP, t.TTF, t.Temp, t.Hum, t.Pres, t.TempBMX, t.FIFO, t.Len)
	for _, p := range t.Prox {
		fmt.Fprintf(&b, " %v:%v", p[0], p[1])
	}
	for _, s := range t.Samples {
		fmt.Fprintf(&b, " %v", s)
	}
	if t.Type == TypeRawGNSS.String() {
		fmt.Fprintf(&b, " %v %d %d %d %v", float32(t.TOW), t.Week, t.Leap, t.Status, t.Obs)
	}
	return b.String()
}

func entryKey(e *Entry) string {
	t := truth{
		Type: e.Type.String(), Tag: e.Tag.String(), UTC: e.UTC, Centis: e.Hundredths, Err: e.LastError, ErrCnt: e.ErrorCount,
		Batt: e.Battery, Lat: e.LatitudeE6, Lon: e.LongitudeE6, HDOP: e.HDOPTenths, TTF: e.TTF, Temp: e.Temperature,
		Hum: e.Humidity, Pres: e.Pressure, TempBMX: e.IMUTemperature, FIFO: e.BurstBytes(), Len: len(e.Raw),
	}
	for i := range e.Neighbours() {
		id, rssi := e.Neighbour(i)
		t.Prox = append(t.Prox, [2]any{fmt.Sprintf("%04X", id), rssi})
	}
	if e.Type == TypeRawGNSS {
		h := e.Epoch()
		t.TOW, t.Week, t.Leap, t.Status = float64(h.TimeOfWeek), h.Week, h.LeapSeconds, h.Status
		for i := range h.Records {
			r := e.GNSSRecord(i)
			t.Obs = append(t.Obs, []float64{r.Pseudorange, r.CarrierPhase, float64(r.Doppler), float64(r.CarrierNoise), float64(r.GNSS),
				float64(r.Satellite), float64(r.Signal), float64(r.FrequencySlot), float64(r.LockTime), float64(r.PseudorangeSD),
				float64(r.CarrierSD), float64(r.DopplerSD), float64(r.Tracking)})
		}
	}
	for i := range e.Samples() {
		s := e.Sample(i)
		row := append([]int16{}, s.Acc[:]...)
		if e.Type.Sensors()&Mag != 0 {
			row = append(append(row, s.Mag[:]...), s.Hall)
		}
		if e.Type.Sensors()&Gyro != 0 {
			row = append(row, s.Gyro[:]...)
		}
		t.Samples = append(t.Samples, row)
	}
	return t.key()
}

func loadCases(t testing.TB) []testCase {
	t.Helper()
	dirs, err := filepath.Glob("testdata/cases/*")
	require.NoError(t, err)
	require.NotEmpty(t, dirs)
	var cases []testCase
	for _, dir := range dirs {
		c := testCase{Dir: dir}
		data, err := os.ReadFile(filepath.Join(dir, "case.json"))
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(data, &c))
		data, err = os.ReadFile(filepath.Join(dir, "manifest.json"))
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(data, &c.Manifest))
		if c.Mode <= 2 {
			c.Input, err = os.ReadFile(filepath.Join(dir, "input.bin"))
			require.NoError(t, err)
			c.Config, _ = os.ReadFile(filepath.Join(dir, "config.txt"))
			data, _ = os.ReadFile(filepath.Join(dir, "truth.jsonl")) // an empty log has none
			for line := range bytes.Lines(data) {
				var tr truth
				require.NoError(t, json.Unmarshal(line, &tr))
				c.Truth = append(c.Truth, tr)
			}
		}
		cases = append(cases, c)
	}
	return cases
}

// decodeKeys decodes a log and counts its entries by their content.
func decodeKeys(t testing.TB, input []byte, opts Options) (map[string]int, *Report) {
	t.Helper()
	found := map[string]int{}
	report, err := Decode(bytes.NewReader(input), opts, Sink{Entry: func(e *Entry) error {
		found[entryKey(e)]++
		return nil
	}})
	require.NoError(t, err)
	return found, report
}

func TestCasesAgainstTruth(t *testing.T) {
	unseen := 0
	for _, c := range loadCases(t) {
		if c.Mode > 2 {
			continue
		}
		t.Run(c.Name, func(t *testing.T) {
			found, report := decodeKeys(t, c.Input, Options{})
			for _, tr := range c.Truth {
				key := tr.key()
				switch tr.State {
				case "intact", "unsupported", "implausible":
					if found[key] == 0 {
						if tr.State != "implausible" { // those need not be returned
							t.Errorf("missing: %.200s", key)
						}
						continue
					}
					found[key]--
				}
			}
			for key, n := range found {
				if n == 0 {
					continue
				}
				unseen += n
				if !strings.HasPrefix(c.Name, "fuzz_") { // there bits are changed inside samples
					t.Errorf("not in the log: %.200s", key)
				}
			}
			for _, tr := range c.Truth {
				if tr.State == "damaged" && report.DamageCount == 0 {
					t.Errorf("damage is not reported")
				}
			}
		})
	}
	// A decoder cannot notice all damage, there is no checksum; 27 such entries are
	// known to pass a decoder that knows the format and nothing more.
	require.LessOrEqual(t, unseen, 8)
}
