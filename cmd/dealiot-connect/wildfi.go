// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/dealiot/dealiot-connect/plugins/wildfi"
)

// exitDamaged is the exit code of `wildfi` with --exit-code when a log was
// decoded and parts of it could not be.
const exitDamaged = 2

// The formats of `wildfi decode`.
const (
	formatNDJSON       = "ndjson"
	formatCSV          = "csv"
	formatReferenceCSV = "reference-csv"
)

func wildfiCommand() *cli.Command {
	reading := []cli.Flag{
		&cli.StringFlag{Name: "product", Value: "auto", Usage: "what wrote the log: movement, proximity, or auto to find out"},
		&cli.IntFlag{Name: "reorder-window", Value: wildfi.DefaultReorderWindow >> 20, Usage: "how many MiB of a log are held back to put messages in order"},
		&cli.StringFlag{Name: "not-before", Value: unixText(wildfi.DefaultNotBefore), Usage: "clocks before that are marked as doubtful"},
		&cli.StringFlag{Name: "not-after", Value: unixText(wildfi.DefaultNotAfter), Usage: "clocks after that are marked as doubtful"},
		&cli.BoolFlag{Name: "json", Usage: "print the reports as one JSON document"},
		&cli.BoolFlag{Name: "exit-code", Usage: "exit with 2 when parts of a log could not be decoded"},
	}
	return &cli.Command{
		Name:  "wildfi",
		Usage: "Inspect and decode the binary logs of WildFi tags",
		Description: `
Logs are the .bin files of WildFi gateways (also .bin.up). A folder stands for
all logs in it, a pattern in quotes for all that match, - for standard input.

  {{.BinaryName}} wildfi inspect 20240601_120000_MOVE_DATA.bin
  {{.BinaryName}} wildfi decode card/ -o decoded --imu-hz 50
  {{.BinaryName}} wildfi decode *.bin -o csv --format reference-csv --form split --config WildFiDecoderConfig.txt`[1:],
		Subcommands: []*cli.Command{
			{
				Name:      "inspect",
				Usage:     "Show what logs hold: tags, times, entries, gaps and damage",
				ArgsUsage: "FILE...",
				Description: `
Exit codes: 0 when all files are logs, 1 when one could not be read or is none.
With --exit-code also 2, when parts of a log could not be decoded.`[1:],
				Flags:  reading,
				Action: wildfiInspect,
			},
			{
				Name:      "decode",
				Usage:     "Decode logs into files",
				ArgsUsage: "FILE...",
				Description: `
  ndjson         NAME.ndjson, a line of JSON an entry, in units
  csv            NAME_entries.csv, NAME_samples.csv, NAME_neighbours.csv and
                 NAME_gnss.csv, in units
  reference-csv  the files of the reference decoders, byte for byte where these
                 are right: NAME_MAC_TYPE.csv or NAME_MAC_burstFormat_TYPE.csv

Beside them, NAME_report.json says what was found and which parts of the log
could not be decoded, and why. Without --output, ndjson goes to standard output.

A log does not hold how the sensors were set. --config, --acc-range and
--gyro-range say it; without them, ndjson and csv assume ±8 g, ±500 °/s and 16
steps a microtesla, and reference-csv prints raw integers as the reference does.
Without --imu-hz, the start or the end of a burst is not known.

Exit codes as for inspect.`[1:],
				Flags: append([]cli.Flag{
					&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "folder for the files; it is made if need be", TakesFile: true},
					&cli.StringFlag{Name: "format", Value: formatNDJSON, Usage: strings.Join([]string{formatNDJSON, formatCSV, formatReferenceCSV}, ", ")},
					&cli.StringFlag{Name: "form", Value: "burst", Usage: "of reference-csv: split writes a line a sample or neighbour, burst a line an entry"},
					&cli.StringFlag{Name: "flavour", Value: "standalone", Usage: "of reference-csv: which reference decoder, standalone or multithreaded"},
					&cli.StringFlag{Name: "config", Usage: "a WildFiDecoderConfig.txt with the factors of the sensors", TakesFile: true},
					&cli.IntFlag{Name: "acc-range", Usage: "range of the accelerometer in g: 2, 4, 8 or 16"},
					&cli.IntFlag{Name: "gyro-range", Usage: "range of the gyroscope in °/s: 125, 250, 500, 1000 or 2000"},
					&cli.BoolFlag{Name: "exact", Usage: "with --gyro-range: the exact factor in place of the reference's rounded one"},
					&cli.Float64Flag{Name: "imu-hz", Usage: "sampling rate of the IMU"},
				}, reading...),
				Action: wildfiDecode,
			},
			{
				Name:      "metadata",
				Usage:     "Make tables of the METADATA.txt files of gateways",
				ArgsUsage: "FILE...",
				Description: `
METADATA_PROX.csv holds the broadcasts of proximity tags, and
proxTimeDiffsGWTime.csv how far the clocks of tags differ that were heard
together (in seconds), as the reference decoder makes them. A folder stands for
all METADATA.txt in it.`[1:],
				Flags:  []cli.Flag{wildfiFolderFlag()},
				Action: wildfiMetadata,
			},
			{
				Name:      "merge",
				Usage:     "Put logs into one file",
				ArgsUsage: "FILE...",
				Description: `
A stream of one tag may go on in the next file of a gateway, or of another
gateway; in one file its entries are whole. Files of decoded entries (.csv) keep
their header once.`[1:],
				Flags:  []cli.Flag{&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "the file to make", TakesFile: true}},
				Action: wildfiMerge,
			},
			{
				Name:      "split",
				Usage:     "Put the messages of each tag into a file of its own",
				ArgsUsage: "FILE...",
				Description: `
Makes MAC_DATA_MERGED.bin for each tag, as the reference decoder does. What is no
message stays out, and so does a message that the file ends in.`[1:],
				Flags:  append([]cli.Flag{wildfiFolderFlag()}, reading...),
				Action: wildfiSplit,
			},
		},
	}
}

func wildfiFolderFlag() cli.Flag {
	return &cli.StringFlag{Name: "output", Aliases: []string{"o"}, Value: ".", Usage: "folder for the files; it is made if need be", TakesFile: true}
}

func unixText(s uint32) string { return time.Unix(int64(s), 0).UTC().Format(time.RFC3339) }

// interspersed reads flags that stand after or between the files, where the
// command line library stops at the first file, and gives the files.
func interspersed(c *cli.Context) ([]string, error) {
	set := flag.NewFlagSet(c.Command.Name, flag.ContinueOnError)
	set.SetOutput(io.Discard)
	names := map[string][]string{}
	for _, f := range c.Command.Flags {
		if err := f.Apply(set); err != nil {
			return nil, err
		}
		for _, name := range f.Names() {
			names[name] = f.Names()
		}
	}
	var files []string
	for args := c.Args().Slice(); len(args) > 0; {
		if args[0] == "--" {
			files = append(files, args[1:]...)
			break
		}
		if args[0] == "-" || !strings.HasPrefix(args[0], "-") {
			files, args = append(files, args[0]), args[1:]
			continue
		}
		if err := set.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return nil, cli.ShowSubcommandHelp(c)
			}
			return nil, fmt.Errorf("reading the command line: %w", err)
		}
		args = set.Args()
	}
	var err error
	set.Visit(func(f *flag.Flag) {
		for _, name := range names[f.Name] {
			err = errors.Join(err, c.Set(name, f.Value.String()))
		}
	})
	return files, err
}

// wildfiLog is one log of the command line.
type wildfiLog struct {
	path string // "-" is standard input
	base string // of the names of its files
	size int64
}

// wildfiLogs finds the logs that the command line names.
func wildfiLogs(args []string) ([]wildfiLog, error) { return findLogs(args, isLogName) }

// findLogs finds the files that the command line names; wanted tells which ones
// of a folder.
func findLogs(args []string, wanted func(path string) bool) ([]wildfiLog, error) {
	if len(args) == 0 {
		return nil, errors.New("reading the command line: no file is named; name one or more logs, or a folder of logs")
	}
	var logs []wildfiLog
	add := func(path string) error {
		info, err := os.Stat(path)
		if err != nil {
			return fmt.Errorf("looking for log: %w", err)
		}
		logs = append(logs, wildfiLog{path, logBase(path), info.Size()})
		return nil
	}
	for _, arg := range args {
		if arg == "-" {
			logs = append(logs, wildfiLog{path: arg, base: "stdin"})
			continue
		}
		info, err := os.Stat(arg)
		switch {
		case err == nil && info.IsDir():
			before := len(logs)
			err := filepath.WalkDir(arg, func(path string, entry fs.DirEntry, err error) error {
				if err != nil || entry.IsDir() || !wanted(path) {
					return err
				}
				return add(path)
			})
			if err != nil {
				return nil, fmt.Errorf("looking for logs in %s: %w", arg, err)
			}
			if len(logs) == before {
				return nil, fmt.Errorf("looking for logs in %s: there is no such file", arg)
			}
		case err == nil:
			if err := add(arg); err != nil {
				return nil, err
			}
		default:
			found, badPattern := filepath.Glob(arg)
			if badPattern != nil || len(found) == 0 {
				return nil, fmt.Errorf("looking for log: %w", err)
			}
			for _, path := range found {
				if err := add(path); err != nil {
					return nil, err
				}
			}
		}
	}
	uniqueBases(logs)
	return logs, nil
}

func isLogName(path string) bool {
	return strings.HasSuffix(path, ".bin") || strings.HasSuffix(path, ".bin.up")
}

func logBase(path string) string {
	return strings.TrimSuffix(strings.TrimSuffix(filepath.Base(path), ".up"), ".bin")
}

// uniqueBases puts the folders into the names of logs that have the same name,
// which gateways make in each of their folders.
func uniqueBases(logs []wildfiLog) {
	count := map[string]int{}
	for _, l := range logs {
		count[l.base]++
	}
	seen := map[string]int{}
	for i := range logs {
		l := &logs[i]
		if count[l.base] > 1 && l.path != "-" {
			dir := strings.Trim(filepath.ToSlash(filepath.Dir(filepath.Clean(l.path))), "./")
			if dir != "" {
				l.base = strings.ReplaceAll(dir, "/", "_") + "_" + l.base
			}
		}
		if seen[l.base]++; seen[l.base] > 1 {
			l.base = fmt.Sprintf("%s_%d", l.base, seen[l.base])
		}
	}
}

func wildfiOptions(c *cli.Context) (wildfi.Options, error) {
	var o wildfi.Options
	var err error
	if o.Product, err = wildfi.ParseProduct(c.String("product")); err != nil {
		return o, fmt.Errorf("reading --product: %w", err)
	}
	mib := c.Int("reorder-window")
	if mib < 1 || mib > 1024 {
		return o, fmt.Errorf("reading --reorder-window: %d MiB is not between 1 and 1024", mib)
	}
	o.ReorderWindow = mib << 20
	for name, to := range map[string]*uint32{"not-before": &o.NotBefore, "not-after": &o.NotAfter} {
		t, err := time.Parse(time.RFC3339, c.String(name))
		if err != nil || t.Unix() <= 0 || t.Unix() > 1<<32-1 {
			return o, fmt.Errorf("reading --%s: %q is no time such as 2019-01-01T00:00:00Z, between 1970 and 2106", name, c.String(name))
		}
		*to = uint32(t.Unix())
	}
	return o, nil
}

// wildfiResult is what became of one log.
type wildfiResult struct {
	File   string         `json:"file"`
	Report *wildfi.Report `json:"report,omitempty"`
	Error  string         `json:"error,omitempty"`
}

// wildfiMemory is from where on memory is collected at once. What is in use is
// far less: the reorder window and some tables.
const wildfiMemory = 48 << 20

// errNotALog is why a file is refused that holds nothing of a tag.
var errNotALog = errors.New("there is no entry of a WildFi tag in it, and most of it is no message; is it the .bin file of a WildFi gateway?")

// wildfiRun decodes logs one after the other, each into a sink of its own, and
// prints the results.
func wildfiRun(c *cli.Context, logs []wildfiLog, opts wildfi.Options, sink func(wildfiLog) (wildfi.Sink, func(*wildfi.Report) error, error)) error {
	ctx, stop := signal.NotifyContext(c.Context, os.Interrupt, syscall.SIGTERM)
	defer stop()
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(wildfiMemory) // there is little garbage, collecting it early costs nothing
	}
	progress := newByteProgress(c.App.ErrWriter, logs)
	var results []wildfiResult
	failed, damaged := 0, false
	for _, l := range logs {
		report, err := wildfiDecodeLog(ctx, l, opts, progress, sink)
		result := wildfiResult{File: l.path, Report: report}
		if err == nil && !report.IsLog() {
			err = errNotALog
		}
		if err != nil {
			failed++
			result.Error = err.Error()
			progress.clear()
			fmt.Fprintf(c.App.ErrWriter, "%s: %v\n", l.path, err)
			if ctx.Err() != nil {
				return cli.Exit("", 1)
			}
		}
		damaged = damaged || report != nil && !report.Clean()
		results = append(results, result)
	}
	progress.clear()
	if c.Bool("json") {
		if err := writeJSON(c.App.Writer, results); err != nil {
			return err
		}
	} else if out := wildfiReportWriter(c); out != nil {
		for i, r := range results {
			if r.Report != nil && r.Error == "" {
				if i > 0 {
					fmt.Fprintln(out)
				}
				if err := writeWildfiReport(out, r); err != nil {
					return err
				}
			}
		}
	}
	switch {
	case failed > 0:
		return cli.Exit("", 1)
	case damaged && c.Bool("exit-code"):
		return cli.Exit("", exitDamaged)
	}
	return nil
}

// wildfiReportWriter is where the summary for people goes: not where data goes.
func wildfiReportWriter(c *cli.Context) io.Writer {
	if c.Command.Name == "decode" && c.String("output") == "" {
		return c.App.ErrWriter
	}
	return c.App.Writer
}

func wildfiDecodeLog(ctx context.Context, l wildfiLog, opts wildfi.Options, progress *byteProgress, sink func(wildfiLog) (wildfi.Sink, func(*wildfi.Report) error, error)) (*wildfi.Report, error) {
	in := io.Reader(os.Stdin)
	if l.path != "-" {
		f, err := os.Open(l.path)
		if err != nil {
			return nil, fmt.Errorf("opening log: %w", err)
		}
		defer f.Close()
		in = f
	}
	s, done, err := sink(l)
	if err != nil {
		return nil, err
	}
	report, err := wildfi.Decode(&watchedReader{ctx, in, progress}, opts, s)
	if done != nil {
		err = errors.Join(err, done(report))
	}
	return report, err
}

// watchedReader tells how much was read, and ends when the command is to end.
type watchedReader struct {
	ctx      context.Context
	in       io.Reader
	progress *byteProgress
}

func (r *watchedReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, errors.New("interrupted")
	}
	n, err := r.in.Read(p)
	r.progress.add(n)
	return n, err
}

// byteProgress shows on a terminal how far reading is. Elsewhere it is silent.
type byteProgress struct {
	out         io.Writer
	total, done int64
	begun, last time.Time
	shown       bool
}

func newByteProgress(out io.Writer, logs []wildfiLog) *byteProgress {
	p := &byteProgress{begun: time.Now()}
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		p.out = out
	}
	for _, l := range logs {
		p.total += l.size
	}
	return p
}

func (p *byteProgress) add(n int) {
	p.done += int64(n)
	now := time.Now()
	if p.out == nil || now.Sub(p.begun) < time.Second || now.Sub(p.last) < 200*time.Millisecond {
		return
	}
	p.last = now
	const width = 30
	text := fmt.Sprintf("%s, %s/s", byteText(p.done), byteText(int64(float64(p.done)/now.Sub(p.begun).Seconds())))
	if p.total > 0 {
		share := min(1, float64(p.done)/float64(p.total))
		bar := int(width * share)
		text = fmt.Sprintf("[%s%s] %3.0f%% %s of %s", strings.Repeat("=", bar), strings.Repeat(" ", width-bar), 100*share, text, byteText(p.total))
	}
	fmt.Fprint(p.out, "\r\x1b[K"+text)
	p.shown = true
}

func (p *byteProgress) clear() {
	if p.shown {
		fmt.Fprint(p.out, "\r\x1b[K")
		p.shown = false
	}
}

func byteText(n int64) string {
	switch {
	case n < 10_000:
		return fmt.Sprintf("%d B", n)
	case n < 10_000_000:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	case n < 10_000_000_000:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.1f GB", float64(n)/1e9)
}

func wildfiInspect(c *cli.Context) error {
	args, err := interspersed(c)
	if err != nil {
		return err
	}
	opts, err := wildfiOptions(c)
	if err != nil {
		return err
	}
	logs, err := wildfiLogs(args)
	if err != nil {
		return err
	}
	return wildfiRun(c, logs, opts, func(wildfiLog) (wildfi.Sink, func(*wildfi.Report) error, error) {
		return wildfi.Sink{}, nil, nil
	})
}

func wildfiDecode(c *cli.Context) error {
	args, err := interspersed(c)
	if err != nil {
		return err
	}
	opts, err := wildfiOptions(c)
	if err != nil {
		return err
	}
	out, err := wildfiOutputFromFlags(c)
	if err != nil {
		return err
	}
	logs, err := wildfiLogs(args)
	if err != nil {
		return err
	}
	if out.dir == "" && c.Bool("json") {
		return errors.New("reading --json: without --output the entries go to standard output, where the reports cannot go too")
	}
	if out.dir != "" {
		if err := os.MkdirAll(out.dir, 0o755); err != nil {
			return fmt.Errorf("making folder for the files: %w", err)
		}
	}
	return wildfiRun(c, logs, opts, out.sink)
}

// wildfiOutput says what files to make.
type wildfiOutput struct {
	dir     string // "" is standard output
	stdout  io.Writer
	format  string
	split   bool
	flavour wildfi.Flavour
	scale   wildfi.Scale
	imuHz   float64
	written map[string]bool
}

func wildfiOutputFromFlags(c *cli.Context) (*wildfiOutput, error) {
	o := &wildfiOutput{dir: c.String("output"), stdout: c.App.Writer, format: c.String("format"), imuHz: c.Float64("imu-hz"), written: map[string]bool{}}
	switch o.format {
	case formatNDJSON:
	case formatCSV, formatReferenceCSV:
		if o.dir == "" {
			return nil, fmt.Errorf("reading --format: %s makes several files, and needs a folder for them: --output", o.format)
		}
	default:
		return nil, fmt.Errorf("reading --format: %q is none of %s, %s, %s", o.format, formatNDJSON, formatCSV, formatReferenceCSV)
	}
	switch form := c.String("form"); form {
	case "split":
		o.split = true
	case "burst":
	default:
		return nil, fmt.Errorf("reading --form: %q is none of split, burst", form)
	}
	var err error
	if o.flavour, err = wildfi.ParseFlavour(c.String("flavour")); err != nil {
		return nil, fmt.Errorf("reading --flavour: %w", err)
	}
	if o.imuHz < 0 || o.imuHz > 1e6 {
		return nil, fmt.Errorf("reading --imu-hz: %v Hz is not between 0 and 1,000,000", o.imuHz)
	}
	o.scale = wildfi.DefaultScale
	if o.format == formatReferenceCSV {
		o.scale = wildfi.RawScale
	}
	if path := c.String("config"); path != "" {
		f, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("opening --config: %w", err)
		}
		defer f.Close()
		scale, ignored, err := wildfi.ReadConfig(f)
		if err != nil {
			return nil, fmt.Errorf("reading --config %s: %w", path, err)
		}
		if len(ignored) > 0 {
			fmt.Fprintf(c.App.ErrWriter, "%s: no number in line %s, its factor is 1\n", path, strings.Trim(fmt.Sprint(ignored), "[]"))
		}
		o.scale = scale
	}
	if c.IsSet("acc-range") {
		if o.scale, err = o.scale.WithAccRange(c.Int("acc-range")); err != nil {
			return nil, fmt.Errorf("reading --acc-range: %w", err)
		}
	}
	if c.IsSet("gyro-range") {
		if o.scale, err = o.scale.WithGyroRange(c.Int("gyro-range"), c.Bool("exact")); err != nil {
			return nil, fmt.Errorf("reading --gyro-range: %w", err)
		}
	}
	return o, nil
}

// sink makes the files of one log.
func (o *wildfiOutput) sink(l wildfiLog) (wildfi.Sink, func(*wildfi.Report) error, error) {
	var write func(*wildfi.Entry) error
	var end func() error
	switch o.format {
	case formatReferenceCSV:
		w := &wildfi.ReferenceCSV{Base: l.base, Split: o.split, Flavour: o.flavour, Scale: o.scale, IMUHz: int(o.imuHz), Append: o.append}
		write, end = w.Write, w.Close
	case formatCSV:
		w := &wildfi.CSV{Base: l.base, Units: wildfi.NewUnits(o.scale, o.imuHz), Append: o.append}
		write, end = w.Write, w.Close
	default:
		out, done, err := o.ndjsonFile(l)
		if err != nil {
			return wildfi.Sink{}, nil, err
		}
		units := wildfi.NewUnits(o.scale, o.imuHz)
		var line []byte
		write = func(e *wildfi.Entry) error {
			line = append(units.AppendJSON(line[:0], e), '\n')
			_, err := out.Write(line)
			return err
		}
		end = done
	}
	done := func(r *wildfi.Report) error {
		err := end()
		if err == nil && o.dir != "" && r != nil {
			err = writeJSONFile(filepath.Join(o.dir, l.base+"_report.json"), wildfiResult{File: l.path, Report: r})
		}
		return err
	}
	return wildfi.Sink{Entry: write}, done, nil
}

func (o *wildfiOutput) ndjsonFile(l wildfiLog) (io.Writer, func() error, error) {
	if o.dir == "" {
		w := bufio.NewWriterSize(o.stdout, 1<<16)
		return w, w.Flush, nil
	}
	f, err := os.Create(filepath.Join(o.dir, l.base+".ndjson"))
	if err != nil {
		return nil, nil, fmt.Errorf("creating file for the entries: %w", err)
	}
	w := bufio.NewWriterSize(f, 1<<16)
	return w, func() error { return errors.Join(w.Flush(), f.Close()) }, nil
}

// append adds to a file of the output folder; the first time it replaces it. A
// log may have more files than a process may hold open.
func (o *wildfiOutput) append(name string, data []byte) error {
	how := os.O_WRONLY | os.O_CREATE | os.O_APPEND
	if !o.written[name] {
		how = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
		o.written[name] = true
	}
	f, err := os.OpenFile(filepath.Join(o.dir, name), how, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

func writeJSONFile(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("writing report: %w", err)
	}
	if err := os.WriteFile(path, append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("writing report: %w", err)
	}
	return nil
}

// writeWildfiReport says what a log holds, for people.
func writeWildfiReport(out io.Writer, result wildfiResult) error {
	r := result.Report
	if r.Bytes == 0 {
		_, err := fmt.Fprintf(out, "%s: an empty file\n", result.File)
		return err
	}
	fmt.Fprintf(out, "%s: %s, %s, %s", result.File, byteText(r.Bytes), counted(int(r.Messages), "message"), countedEntries(r.EntryCount))
	if r.Samples > 0 {
		fmt.Fprintf(out, ", %d IMU samples", r.Samples)
	}
	fmt.Fprintln(out)
	var types []string
	for _, t := range slices.Sorted(maps.Keys(r.Entries)) {
		types = append(types, fmt.Sprintf("%s %d", t, r.Entries[t]))
	}
	if len(types) > 0 {
		fmt.Fprintf(out, "  types: %s\n", strings.Join(types, ", "))
	}
	w := tabwriter.NewWriter(out, 2, 0, 2, ' ', 0)
	fmt.Fprintln(w, "  tag\tproduct\tentries\tfirst\tlast\tfixes\tbattery\ttemperature\tgaps\trepeats\tdamaged")
	for _, t := range r.Tags {
		if t.Messages == t.Status {
			fmt.Fprintf(w, "  %v\t\tstatus messages only: %d\n", t.Tag, t.Status)
			continue
		}
		fmt.Fprintf(w, "  %v\t%s\t%d\t%s\t%s\t%d\t%s\t%s\t%d\t%d\t%s\n", t.Tag, t.Product, t.EntryCount,
			utcText(t.FirstUTC), utcText(t.LastUTC), t.Fixes, batteryText(t), temperatureText(t), t.Gaps, t.Duplicates+t.RepeatEntries, byteText(t.DamagedBytes))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, t := range r.Tags {
		if t.ClockUnset > 0 {
			fmt.Fprintf(out, "  %v: %s with a clock that was not set or is not believed\n", t.Tag, countedEntries(t.ClockUnset))
		}
	}
	if r.DamageCount == 0 {
		_, err := fmt.Fprintln(out, "  everything was decoded")
		return err
	}
	fmt.Fprintf(out, "  not decoded: %s, %s\n", counted(int(r.DamageCount), "region"), byteText(r.DamagedBytes))
	for _, why := range slices.Sorted(maps.Keys(r.DamageReasons)) {
		fmt.Fprintf(out, "    %d x %s\n", r.DamageReasons[why], why)
	}
	const shown = 10
	for _, d := range r.Damage[:min(shown, len(r.Damage))] {
		where := ""
		if d.Tag != (wildfi.MAC{}) {
			where = fmt.Sprintf(" of %v", d.Tag)
		}
		fmt.Fprintf(out, "    at byte %d, %s%s: %v\n", d.Offset, byteText(int64(d.Length)), where, d.Reason)
	}
	if r.DamageCount > shown {
		fmt.Fprintf(out, "    and %d more; --json lists the first 1000\n", r.DamageCount-shown)
	}
	return nil
}

func countedEntries(n int64) string {
	if n == 1 {
		return "1 entry"
	}
	return fmt.Sprintf("%d entries", n)
}

func utcText(s uint32) string {
	if s == 0 {
		return "-"
	}
	return unixText(s)
}

func batteryText(t *wildfi.TagReport) string {
	if t.BatteryMaxMV == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f-%.2f V", float64(t.BatteryMinMV)/1000, float64(t.BatteryMaxMV)/1000)
}

func temperatureText(t *wildfi.TagReport) string {
	if t.TemperatureLo == nil {
		return "-"
	}
	return fmt.Sprintf("%.1f..%.1f °C", *t.TemperatureLo, *t.TemperatureHi)
}

func wildfiMetadata(c *cli.Context) (err error) {
	args, err := interspersed(c)
	if err != nil {
		return err
	}
	files, err := findLogs(args, func(path string) bool { return filepath.Base(path) == "METADATA.txt" })
	if err != nil {
		return err
	}
	dir := c.String("output")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("making folder for the files: %w", err)
	}
	tables := &wildfi.MetadataTables{}
	for name, to := range map[string]*io.Writer{"METADATA_PROX.csv": &tables.Broadcasts, "proxTimeDiffsGWTime.csv": &tables.Differences} {
		f, failed := os.Create(filepath.Join(dir, name))
		if failed != nil {
			return fmt.Errorf("creating table: %w", failed)
		}
		w := bufio.NewWriter(f)
		*to = w
		defer func() {
			if failed := errors.Join(w.Flush(), f.Close()); failed != nil && err == nil {
				err = fmt.Errorf("writing %s: %w", name, failed)
			}
		}()
	}
	for _, file := range files {
		if err := wildfiMetadataFile(c, file, tables); err != nil {
			return err
		}
	}
	return tables.Close()
}

func wildfiMetadataFile(c *cli.Context, file wildfiLog, tables *wildfi.MetadataTables) error {
	in := io.Reader(os.Stdin)
	if file.path != "-" {
		f, err := os.Open(file.path)
		if err != nil {
			return fmt.Errorf("opening METADATA.txt: %w", err)
		}
		defer f.Close()
		in = f
	}
	kinds := map[byte]int{}
	lines := 0
	bad, n, err := wildfi.ReadMetadata(in, func(m *wildfi.MetadataMessage) error {
		if len(m.Payload) > 0 {
			kinds[m.Payload[0]]++
		}
		lines++
		return tables.Write(m)
	})
	if err != nil {
		return fmt.Errorf("%s: %w", file.path, err)
	}
	fmt.Fprintf(c.App.Writer, "%s: %s, %d broadcasts of proximity tags, %d messages of movement tags, %d activations\n", file.path, counted(lines, "message"),
		kinds[wildfi.KindProximityBroadcast], kinds[wildfi.KindTagAround]+kinds[wildfi.KindTagAroundV2], kinds[wildfi.KindActivated]+kinds[wildfi.KindProximityActivated])
	if n > 0 {
		fmt.Fprintf(c.App.ErrWriter, "%s: %s no message of a gateway, the first is line %d\n", file.path, counted(n, "line"), bad[0])
	}
	return nil
}

func wildfiMerge(c *cli.Context) (err error) {
	args, err := interspersed(c)
	if err != nil {
		return err
	}
	files, err := wildfiLogs(args)
	if err != nil {
		return err
	}
	path := c.String("output")
	if path == "" {
		return errors.New("reading --output: name the file to make")
	}
	for _, f := range files {
		if sameFile(f.path, path) {
			return fmt.Errorf("reading --output: %s is also one of the files to merge", path)
		}
	}
	out, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("creating merged file: %w", err)
	}
	defer func() {
		if failed := out.Close(); failed != nil && err == nil {
			err = fmt.Errorf("writing merged file: %w", failed)
		}
	}()
	header := ""
	for _, f := range files {
		if header, err = appendFile(out, f.path, header); err != nil {
			return err
		}
	}
	return nil
}

func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}

// appendFile copies a file to out, without its first line if it is a table that
// begins with the header of those before.
func appendFile(out io.Writer, path, header string) (string, error) {
	if path == "-" {
		_, err := io.Copy(out, os.Stdin)
		return header, err
	}
	f, err := os.Open(path)
	if err != nil {
		return header, fmt.Errorf("opening file to merge: %w", err)
	}
	defer f.Close()
	in := bufio.NewReader(f)
	if strings.HasSuffix(path, ".csv") {
		line, err := in.ReadString('\n')
		if err != nil && err != io.EOF {
			return header, fmt.Errorf("reading %s: %w", path, err)
		}
		if line != header {
			if header != "" {
				return header, fmt.Errorf("merging %s: its columns are not those of the files before", path)
			}
			header = line
			if _, err := io.WriteString(out, line); err != nil {
				return header, fmt.Errorf("writing merged file: %w", err)
			}
		}
	}
	if _, err := io.Copy(out, in); err != nil {
		return header, fmt.Errorf("merging %s: %w", path, err)
	}
	return header, nil
}

func wildfiSplit(c *cli.Context) error {
	args, err := interspersed(c)
	if err != nil {
		return err
	}
	opts, err := wildfiOptions(c)
	if err != nil {
		return err
	}
	logs, err := wildfiLogs(args)
	if err != nil {
		return err
	}
	o := &wildfiOutput{dir: c.String("output"), written: map[string]bool{}}
	if err := os.MkdirAll(o.dir, 0o755); err != nil {
		return fmt.Errorf("making folder for the files: %w", err)
	}
	files := map[wildfi.MAC]*tagFile{}
	return wildfiRun(c, logs, opts, func(wildfiLog) (wildfi.Sink, func(*wildfi.Report) error, error) {
		message := func(tag wildfi.MAC, message []byte) error {
			f := files[tag]
			if f == nil {
				f = &tagFile{name: string(tag.AppendTo(nil, '_')) + "_DATA_MERGED.bin"}
				files[tag] = f
			}
			f.buf = append(f.buf, message...)
			return f.flush(o, 64<<10)
		}
		done := func(*wildfi.Report) error {
			for _, f := range files {
				if err := f.flush(o, 1); err != nil {
					return err
				}
			}
			return nil
		}
		return wildfi.Sink{Message: message}, done, nil
	})
}

// tagFile gathers the messages of a tag.
type tagFile struct {
	name string
	buf  []byte
}

func (f *tagFile) flush(o *wildfiOutput, least int) error {
	if len(f.buf) < least {
		return nil
	}
	err := o.append(f.name, f.buf)
	f.buf = f.buf[:0]
	return err
}
