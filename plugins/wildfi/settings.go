// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package wildfi

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"
	"gopkg.in/yaml.v3"

	"github.com/dealiot/dealiot-connect/plugins/event"
)

// Fields that the processor and the scanner have in common.
const (
	wfFieldProduct       = "product"
	wfFieldIMUHz         = "imu_hz"
	wfFieldAccRange      = "acc_range"
	wfFieldGyroRange     = "gyro_range"
	wfFieldConfig        = "decoder_config"
	wfFieldSamples       = "samples"
	wfFieldDevices       = "devices"
	wfFieldDevicesFile   = "devices_file"
	wfFieldSource        = "source"
	wfFieldReorderWindow = "reorder_window"
	wfFieldNotBefore     = "not_before"
	wfFieldNotAfter      = "not_after"

	samplesArrays = "arrays"
	samplesEvents = "events"
)

const eventsDescription = `
A log holds the entries of one or many tags. Each entry becomes

- an event for ` + "`raw.gps`" + `, if it holds a position: types 56, 58 and 5A to 5D with a fix;
- an event for ` + "`raw.sensor`" + `, if it holds anything else: environment, battery, neighbours, raw GNSS measurements, and the IMU burst as arrays, or as further events, one a sample (see ` + "`samples`" + `).

` + "`timestamp`" + ` is the time of the first sample, and ` + "`time_end`" + ` that of the last. The tag's clock gives the end of a burst in movement logs and its start in proximity logs; the other end needs ` + "`imu_hz`" + `, which a log does not hold. Without it both are the time of the clock. An entry of a tag whose clock was not set has the time of ingestion, and ` + "`event_time_source`" + ` says so. What the tag could not measure is null.

Every event says where it came from: ` + "`tag_mac`, `entry_type`, `file`, `file_offset`, `flash_address`" + `.

Bytes that cannot be decoded, with the reason, become a message that is marked for ` + "`dead_letter`" + ` and not flagged as failed. Good entries before and after are events all the same. The bytes are in the metadata ` + "`original`" + `, at most their first 64 KiB; the content says where they stand, how many they are, their SHA-256, and why they are no entry.

== Metadata

Set on events:

` + "```text" + `
- kafka_topic, contract (raw.gps or raw.sensor)
- kafka_key (the device id)
- event_id
- event_time (RFC 3339, UTC)
- event_time_source ("ingested", when the tag's clock was not set)
- original (the entry's bytes)
` + "```" + `

Set on undecodable regions:

` + "```text" + `
- error_class (decode)
- error_component (the label of this component, else its name)
- violations
- original
- kafka_topic (raw.sensor, where the entry was most likely to go)
- kafka_key (the tag's address, if it is known)
` + "```" + `

== Identity

` + "`event_id`" + ` is made of the tag's address and the entry's bytes, so a log that is read twice, or that two gateways received, gives the same events.

== Metrics

- ` + "`wildfi_entries`" + ` (label ` + "`type`" + `): entries decoded.
- ` + "`wildfi_damaged_regions`" + ` (label ` + "`reason`" + `): regions that could not be decoded.
- ` + "`wildfi_damaged_bytes`" + `: bytes in them.
- ` + "`wildfi_duplicate_messages`" + `: repeats that were dropped.`

func settingsFields() []*service.ConfigField {
	return []*service.ConfigField{
		service.NewFloatField(wfFieldIMUHz).
			Description("Sampling rate of the IMU in Hz, as the tags were set. 0 is not known.").
			Default(0).
			LintRule(`root = if this < 0 { [ "imu_hz must not be negative" ] }`),
		service.NewIntField(wfFieldAccRange).
			Description("Range of the accelerometer in g, as the tags were set: 2, 4, 8 or 16.").
			Default(8).
			LintRule(`root = if ![2, 4, 8, 16].contains(this) { [ "acc_range must be 2, 4, 8 or 16" ] }`),
		service.NewIntField(wfFieldGyroRange).
			Description("Range of the gyroscope in °/s, as the tags were set: 125, 250, 500, 1000 or 2000.").
			Default(500).
			LintRule(`root = if ![125, 250, 500, 1000, 2000].contains(this) { [ "gyro_range must be 125, 250, 500, 1000 or 2000" ] }`),
		service.NewStringField(wfFieldConfig).
			Description("Path of a `WildFiDecoderConfig.txt`, whose factors are used in place of those of the ranges.").
			Default("").
			Advanced(),
		service.NewStringAnnotatedEnumField(wfFieldSamples, map[string]string{
			samplesArrays: "A burst is arrays in the event of its entry.",
			samplesEvents: "A burst is one event a sample, beside the event of its entry.",
		}).
			Description("How IMU samples are given.").
			Default(samplesArrays),
		service.NewStringMapField(wfFieldDevices).
			Description("Device ids of tags by their address. The id of a tag that is not here is its address.").
			Default(map[string]any{}).
			Example(map[string]any{"58:BF:25:9A:74:40": "cow-17"}),
		service.NewStringField(wfFieldDevicesFile).
			Description("Path of a YAML or JSON file with the same. Items of `" + wfFieldDevices + "` go before it.").
			Default(""),
		service.NewStringField(wfFieldSource).
			Description("The `source` of events.").
			Default(SourceLog).
			Advanced(),
		service.NewStringEnumField(wfFieldProduct, "auto", "movement", "proximity").
			Description("What wrote the log. It is found out for each tag; only a log of a few messages without an entry leaves it open.").
			Default("auto").
			Advanced(),
		service.NewIntField(wfFieldReorderWindow).
			Description("How many bytes of a log are held back so that messages can be put in order.").
			Default(DefaultReorderWindow).
			Advanced().
			LintRule(`root = if this < 1024 { [ "reorder_window must be at least 1024" ] }`),
		service.NewStringField(wfFieldNotBefore).
			Description("A tag's clock before that is taken for one that was not set.").
			Default(time.Unix(DefaultNotBefore, 0).UTC().Format(time.RFC3339)).
			Advanced(),
		service.NewStringField(wfFieldNotAfter).
			Description("A tag's clock after that is taken for one that was not set.").
			Default(time.Unix(DefaultNotAfter, 0).UTC().Format(time.RFC3339)).
			Advanced(),
	}
}

// settings is what the common fields say.
type settings struct {
	options   Options
	scale     Scale
	imuHz     float64
	samples   bool
	devices   map[string]string
	source    string
	component string

	entries, regions, damagedBytes, duplicates *service.MetricCounter
}

func settingsFromParsed(conf *service.ParsedConfig, mgr *service.Resources, name string) (*settings, error) {
	s := &settings{scale: DefaultScale, component: name}
	if label := mgr.Label(); label != "" {
		s.component = label
	}
	product, err := conf.FieldString(wfFieldProduct)
	if err != nil {
		return nil, err
	}
	if s.options.Product, err = ParseProduct(product); err != nil {
		return nil, err
	}
	if s.options.ReorderWindow, err = conf.FieldInt(wfFieldReorderWindow); err != nil {
		return nil, err
	}
	if s.options.NotBefore, err = clockBound(conf, wfFieldNotBefore); err != nil {
		return nil, err
	}
	if s.options.NotAfter, err = clockBound(conf, wfFieldNotAfter); err != nil {
		return nil, err
	}
	if _, err := s.options.withDefaults(); err != nil {
		return nil, err
	}
	if s.imuHz, err = conf.FieldFloat(wfFieldIMUHz); err != nil {
		return nil, err
	}
	if s.imuHz < 0 {
		return nil, fmt.Errorf("reading %s: %v Hz is negative", wfFieldIMUHz, s.imuHz)
	}
	accRange, err := conf.FieldInt(wfFieldAccRange)
	if err != nil {
		return nil, err
	}
	if s.scale, err = s.scale.WithAccRange(accRange); err != nil {
		return nil, err
	}
	gyroRange, err := conf.FieldInt(wfFieldGyroRange)
	if err != nil {
		return nil, err
	}
	if s.scale, err = s.scale.WithGyroRange(gyroRange, false); err != nil {
		return nil, err
	}
	if err := s.readConfigFile(conf, mgr); err != nil {
		return nil, err
	}
	samples, err := conf.FieldString(wfFieldSamples)
	if err != nil {
		return nil, err
	}
	s.samples = samples == samplesEvents
	if s.source, err = conf.FieldString(wfFieldSource); err != nil {
		return nil, err
	}
	if err := s.readDevices(conf, mgr); err != nil {
		return nil, err
	}
	m := mgr.Metrics()
	s.entries = m.NewCounter("wildfi_entries", "type")
	s.regions = m.NewCounter("wildfi_damaged_regions", "reason")
	s.damagedBytes = m.NewCounter("wildfi_damaged_bytes")
	s.duplicates = m.NewCounter("wildfi_duplicate_messages")
	return s, nil
}

func clockBound(conf *service.ParsedConfig, field string) (uint32, error) {
	text, err := conf.FieldString(field)
	if err != nil {
		return 0, err
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil || t.Unix() <= 0 || t.Unix() > 1<<32-1 {
		return 0, fmt.Errorf("reading %s: %q is no time such as 2019-01-01T00:00:00Z, between 1970 and 2106", field, text)
	}
	return uint32(t.Unix()), nil
}

func readFile(mgr *service.Resources, path string) ([]byte, error) {
	f, err := mgr.FS().Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 16<<20))
}

func (s *settings) readConfigFile(conf *service.ParsedConfig, mgr *service.Resources) error {
	path, err := conf.FieldString(wfFieldConfig)
	if err != nil || path == "" {
		return err
	}
	data, err := readFile(mgr, path)
	if err != nil {
		return fmt.Errorf("reading %s: %w", wfFieldConfig, err)
	}
	scale, ignored, err := ReadConfig(strings.NewReader(string(data)))
	if err != nil {
		return fmt.Errorf("reading %s %s: %w", wfFieldConfig, path, err)
	}
	if len(ignored) > 0 {
		mgr.Logger().Warnf("%s: no number in lines %v, their factors are 1", path, ignored)
	}
	s.scale = scale
	return nil
}

func (s *settings) readDevices(conf *service.ParsedConfig, mgr *service.Resources) error {
	path, err := conf.FieldString(wfFieldDevicesFile)
	if err != nil {
		return err
	}
	named := map[string]string{}
	if path != "" {
		data, err := readFile(mgr, path)
		if err != nil {
			return fmt.Errorf("reading %s: %w", wfFieldDevicesFile, err)
		}
		if err := yaml.Unmarshal(data, &named); err != nil {
			return fmt.Errorf("reading %s %s: %w; it is to map addresses of tags to device ids", wfFieldDevicesFile, path, err)
		}
	}
	own, err := conf.FieldStringMap(wfFieldDevices)
	if err != nil {
		return err
	}
	s.devices = map[string]string{}
	for _, m := range []map[string]string{named, own} {
		for mac, id := range m {
			key := strings.ToUpper(strings.ReplaceAll(strings.TrimSpace(mac), "-", ":"))
			if len(key) != len("58:BF:25:9A:74:40") || strings.Trim(key, "0123456789ABCDEF:") != "" {
				return fmt.Errorf("reading device ids: %q is no address such as 58:BF:25:9A:74:40", mac)
			}
			if strings.TrimSpace(id) == "" {
				return fmt.Errorf("reading device ids: tag %s has no id", key)
			}
			s.devices[key] = id
		}
	}
	return nil
}

// decoding decodes one log into messages.
type decoding struct {
	*settings
	file string
	// fresh gives the message that an event or a damaged region is put into.
	fresh func() *service.Message
	// emit takes it.
	emit  func(*service.Message) error
	maker EventMaker
	raw   []byte // bytes of the entry, which its events share
}

func (s *settings) decoding(file string, fresh func() *service.Message, emit func(*service.Message) error) *decoding {
	d := &decoding{settings: s, file: file, fresh: fresh, emit: emit}
	d.maker = EventMaker{
		Units: NewUnits(s.scale, s.imuHz), File: file, Devices: s.devices, Samples: s.samples, Source: s.source,
		Now: time.Now, Emit: d.event,
	}
	return d
}

func (d *decoding) sink() Sink { return Sink{Entry: d.entry, Damage: d.damage} }

func (d *decoding) entry(e *Entry) error {
	d.entries.Incr(1, e.Type.String())
	d.raw = append([]byte(nil), e.Raw...)
	return d.maker.Make(e)
}

func (d *decoding) event(v *Event) error {
	msg := d.fresh()
	msg.SetBytes(v.Body)
	msg.MetaSetMut(event.KafkaTopic, v.Topic)
	msg.MetaSetMut(event.Contract, v.Topic)
	msg.MetaSetMut(event.KafkaKey, v.DeviceID)
	msg.MetaSetMut(event.EventID, v.ID.String())
	msg.MetaSetMut(event.Time, string(event.AppendTime(nil, v.Time)))
	if v.TimeIngested {
		msg.MetaSetMut(event.TimeSource, event.TimeIngested)
	} else {
		msg.MetaDelete(event.TimeSource)
	}
	msg.MetaSetMut(event.Original, d.raw)
	return d.emit(msg)
}

func (d *decoding) damage(g *Damage) error {
	d.regions.Incr(1, g.Reason.String())
	d.damagedBytes.Incr(int64(g.Length))
	msg := d.fresh()
	msg.SetBytes(DamageBody(d.file, g))
	d.mark(msg, append([]byte(nil), g.Data...), DamageViolation(d.file, g))
	if g.Tag != (MAC{}) {
		msg.MetaSetMut(event.KafkaKey, d.maker.device(g.Tag))
	}
	return d.emit(msg)
}

// mark sets what makes a dead letter of a message.
func (s *settings) mark(msg *service.Message, original []byte, why event.Violation) {
	msg.MetaSetMut(event.ErrorClass, string(event.ClassDecode))
	msg.MetaSetMut(event.ErrorComponent, s.component)
	msg.MetaSetMut(event.Violations, event.ViolationList([]event.Violation{why}))
	msg.MetaSetMut(event.Original, original)
	msg.MetaSetMut(event.KafkaTopic, TopicSensor)
}

// notALog says that a file or message holds nothing of a tag; ok is false when
// it does, or when it is empty.
func notALog(r *Report, file string) (event.Violation, bool) {
	if r.IsLog() {
		return event.Violation{}, false
	}
	where := ""
	if file != "" {
		where = file + ": "
	}
	return event.Violation{Keyword: "wildfi", Message: where + "there is no entry of a WildFi tag in it, and most of it is no message; is it the log of a WildFi gateway?"}, true
}
