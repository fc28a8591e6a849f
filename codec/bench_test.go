package codec_test

import (
	"bytes"
	"testing"

	"github.com/walq/walq/codec"
)

func benchMeta(b *testing.B) (codec.Meta, []byte) {
	b.Helper()
	m := full()
	p, err := m.Append(nil)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	return m, p
}

func BenchmarkAppend(b *testing.B) {
	m, p := benchMeta(b)
	for b.Loop() {
		var err error
		if p, err = m.Append(p[:0]); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendTopic(b *testing.B) {
	m := codec.Meta{Topic: "orders"}
	p := make([]byte, 0, 64)
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if p, err = m.Append(p[:0]); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeMeta(b *testing.B) {
	_, p := benchMeta(b)
	for b.Loop() {
		if _, err := codec.DecodeMeta(p); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLookupTopic(b *testing.B) {
	_, p := benchMeta(b)
	for b.Loop() {
		if _, ok := codec.Lookup(p, codec.FieldTopic); !ok {
			b.Fatal("not found")
		}
	}
}

// A filter by topic over messages that have nothing else.
func BenchmarkLookupTopicAlone(b *testing.B) {
	m := codec.Meta{Topic: "orders"}
	p, err := m.Append(nil)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := codec.Lookup(p, codec.FieldTopic); !ok {
			b.Fatal("not found")
		}
	}
}

func BenchmarkValidate(b *testing.B) {
	_, p := benchMeta(b)
	for b.Loop() {
		if err := codec.Validate(p); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkValidateMegabyte(b *testing.B) {
	p := append([]byte{0xdd, 0, 0x10, 0, 0}, bytes.Repeat([]byte{0x91, 0x01}, 1<<20)...)
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	for b.Loop() {
		if err := codec.Validate(p); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkValidateLethal(b *testing.B) {
	p := bytes.Repeat([]byte{0x91}, 2_000_000)
	b.ReportAllocs()
	for b.Loop() {
		if codec.Validate(p) == nil {
			b.Fatal("accepted")
		}
	}
}
