package codec_test

import (
	"fmt"

	"github.com/walq/walq/codec"
)

func Example() {
	m := codec.Meta{
		Topic:   "orders",
		Key:     []byte("customer-7"),
		Headers: map[string]string{"trace": "4bf92f"},
	}
	p, err := m.Append(nil)
	if err != nil {
		fmt.Println(err)
		return
	}

	// A filter needs one field only.
	topic, ok := codec.Lookup(p, codec.FieldTopic)
	fmt.Printf("%d bytes, topic %s %v\n", len(p), topic, ok)

	got, err := codec.DecodeMeta(p)
	fmt.Printf("%s %s %v %v\n", got.Topic, got.Key, got.Headers, err)

	_, err = codec.DecodeMeta([]byte{0xdf, 0x7f, 0xff, 0xff, 0xff})
	fmt.Println(err)
	// Output:
	// 37 bytes, topic orders true
	// orders customer-7 map[trace:4bf92f] <nil>
	// codec: invalid msgpack at byte 0: map declares more pairs than bytes follow: needs 4294967294 bytes, has 0
}
