// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package topics

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// cannotHaveKafka is the exit code of test/kafka/start.sh that says that Java,
// Maven or the artifacts are not to be had on this machine.
const cannotHaveKafka = 3

// TestRealKafka does to a real Kafka what TestFakeCluster does to the fake one.
// DEALIOT_TEST_KAFKA names the brokers of one that runs already; it may hold
// other topics, which are left alone.
func TestRealKafka(t *testing.T) {
	if addrs := os.Getenv("DEALIOT_TEST_KAFKA"); addrs != "" {
		realKafka(t, strings.Split(addrs, ","))
		return
	}
	for _, brokers := range []int{1, 3} {
		t.Run(strconv.Itoa(brokers)+" brokers", func(t *testing.T) {
			addrs := startKafka(t, brokers)
			for _, addr := range addrs { // each broker learns of the others in its own time
				client := connect(t, addr)
				waitFor(t, "all brokers to show at "+addr, func() bool { return len(brokersOf(t, client)) == brokers })
			}
			realKafka(t, addrs)
		})
	}
}

func realKafka(t *testing.T, addrs []string) {
	client := connect(t, addrs...)
	prefix := "topics-test-" + strconv.FormatInt(time.Now().UnixNano(), 36) + "."
	t.Cleanup(func() { removeTopics(t, client, prefix) })
	lifeOfACluster(t, client, len(brokersOf(t, client)), prefix)
}

func brokersOf(t *testing.T, client *kgo.Client) []kmsg.MetadataResponseBroker {
	t.Helper()
	req := kmsg.NewPtrMetadataRequest()
	req.Topics = []kmsg.MetadataRequestTopic{} // none; nil would be all
	meta, err := req.RequestWith(bounded(t), client)
	require.NoError(t, err)
	return meta.Brokers
}

// removeTopics takes away what the test made, so that a Kafka that is not ours
// is left as it was.
func removeTopics(t *testing.T, client *kgo.Client, prefix string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	adm := kadm.NewClient(client)
	all, err := adm.ListTopics(ctx)
	require.NoError(t, err)
	var ours []string
	for _, name := range all.Names() {
		if strings.HasPrefix(name, prefix) {
			ours = append(ours, name)
		}
	}
	_, err = adm.DeleteTopics(ctx, ours...)
	require.NoError(t, err)
}

// startKafka runs a Kafka of so many brokers for the time of the test.
func startKafka(t *testing.T, brokers int) []string {
	t.Helper()
	if testing.Short() {
		t.Skip("SKIPPED TestRealKafka: -short starts no Kafka; set DEALIOT_TEST_KAFKA to use one that runs")
	}
	for _, tool := range []string{"bash", "java", "mvn"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("SKIPPED TestRealKafka: %s is not installed; set DEALIOT_TEST_KAFKA to use a Kafka that runs", tool)
		}
	}
	script, err := filepath.Abs("../../test/kafka/start.sh")
	require.NoError(t, err)
	dir := filepath.Join(t.TempDir(), "kafka")
	ctx, cancel := context.WithTimeout(t.Context(), 12*time.Minute) // the first run fetches the artifacts
	defer cancel()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
		defer cancel()
		out, err := exec.CommandContext(ctx, "bash", script, "stop", "--dir", dir).CombinedOutput()
		require.NoError(t, err, "stopping Kafka: %s", out)
	})
	cmd := exec.CommandContext(ctx, "bash", script, "start", "--brokers", strconv.Itoa(brokers), "--dir", dir)
	var log bytes.Buffer
	cmd.Stderr = &log
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == cannotHaveKafka {
		t.Skipf("SKIPPED TestRealKafka: %s", log.String())
	}
	require.NoError(t, err, "starting Kafka: %s", log.String())
	t.Logf("%s", log.String())
	return strings.Split(strings.TrimSpace(string(out)), ",")
}
