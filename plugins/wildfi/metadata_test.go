// Copyright 2026 The dealiot-connect authors.
// SPDX-License-Identifier: Apache-2.0

package wildfi

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMetadataTables(t *testing.T) {
	data, err := os.ReadFile("testdata/cases/metadata/tree/20240601_120000_DATA/METADATA.txt")
	require.NoError(t, err)
	var broadcasts, differences bytes.Buffer
	w := &MetadataTables{Broadcasts: &broadcasts, Differences: &differences}
	var around []TagAround
	bad, _, err := ReadMetadata(bytes.NewReader(data), func(m *MetadataMessage) error {
		if a, ok := m.TagAround(); ok {
			around = append(around, a)
		}
		return w.Write(m)
	})
	require.NoError(t, err)
	require.NoError(t, w.Close())
	assert.Empty(t, bad)

	for _, c := range loadCases(t) {
		if c.Name != "metadata" {
			continue
		}
		for name, table := range map[string]*bytes.Buffer{"METADATA_PROX.csv": &broadcasts, "proxTimeDiffsGWTime.csv": &differences} {
			sum := sha256.Sum256(table.Bytes())
			assert.Equal(t, c.Manifest["std"].Files[name].SHA256, hex.EncodeToString(sum[:]), "%s:\n%s", name, table)
		}
	}
	require.Len(t, around, 1)
	assert.EqualValues(t, 3900, around[0].Battery)
	assert.Equal(t, [3]int16{-12, 34, -56}, around[0].HardIron, "offsets are signed")
}

func TestMetadataBadLines(t *testing.T) {
	text := "1.5,58:BF:25:9A:74:40,001,55__\n\nx,58:BF:25:9A:74:40,001,55\n1,58,1,55\n1,58:BF:25:9A:74:40,x,55\n1,58:BF:25:9A:74:40,1,5\n1,2\n" +
		strings.Repeat("x", 100_000) + "\n2.5,58:BF:25:9A:74:40,1,77"
	var got []float64
	bad, n, err := ReadMetadata(strings.NewReader(text), func(m *MetadataMessage) error {
		got = append(got, m.Received)
		return nil
	})
	require.NoError(t, err)
	assert.Equal(t, []float64{1.5, 2.5}, got)
	assert.Equal(t, []int{3, 4, 5, 6, 7, 8}, bad)
	assert.Equal(t, 6, n)
}

func FuzzReadMetadata(f *testing.F) {
	f.Add([]byte("0001532.500,30:C6:F7:22:16:A4,030,990F3C240002730601014B63FFF40022FFC8000000110012D68700000000____\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		w := &MetadataTables{Broadcasts: &bytes.Buffer{}, Differences: &bytes.Buffer{}}
		_, _, err := ReadMetadata(bytes.NewReader(data), func(m *MetadataMessage) error {
			m.TagAround()
			return w.Write(m)
		})
		require.NoError(t, err)
		require.NoError(t, w.Close())
	})
}
