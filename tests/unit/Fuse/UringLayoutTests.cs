using Fuse;

namespace UnitTests.FuseTests;

public sealed class UringLayoutTests
{
    private const int Payload = 1 << 20;

    [Theory]
    [InlineData("0\n", new[] { 0 })]
    [InlineData("0-3,8\n", new[] { 0, 1, 2, 3, 8 })]
    [InlineData("0,2, 4-5", new[] { 0, 2, 4, 5 })]
    [InlineData("\n", new int[0])]
    public void Processors_are_read_as_the_system_lists_them(string list, int[] processors) =>
        Assert.Equal(processors, ProcessorSet.Parse(list));

    [Theory]
    [InlineData("a")]
    [InlineData("-1")]
    [InlineData("0-")]
    public void A_list_that_is_none_is_refused(string list) =>
        Assert.Throws<FormatException>(() => ProcessorSet.Parse(list));

    [Theory]
    [InlineData(1, 4, new[] { 0, 1, 2, 3 })]
    [InlineData(2, 4, new[] { 0, 1, 2, 3 })]
    [InlineData(3, 8, new[] { 0, 2, 4, 6 })]
    [InlineData(7, 2, new[] { 0, 1 })]
    [InlineData(2, 3, new[] { 1 })]
    public void Each_queue_has_one_ring(int rings, int possible, int[] online)
    {
        UringLayout layout = new(rings, Payload, possible, online);

        int[] served = [.. Enumerable.Range(0, rings).SelectMany(layout.QueuesOf)];

        Assert.Equal(Enumerable.Range(0, possible), served.Order());
    }

    [Fact]
    public void When_every_other_processor_is_off_each_ring_still_has_its_share()
    {
        UringLayout layout = new(rings: 2, Payload, possible: 8, online: [0, 2, 4, 6]);

        for (int ring = 0; ring < 2; ring++)
        {
            Assert.Equal(2, layout.QueuesOf(ring).Count(queue => layout.DepthOf(queue) > 1));
        }
    }

    [Fact]
    public void The_queue_of_a_processor_that_is_off_has_one_entry()
    {
        UringLayout layout = new(rings: 2, Payload, possible: 4, online: [0, 1]);

        Assert.Equal([layout.Depth, layout.Depth, 1, 1], Enumerable.Range(0, 4).Select(layout.DepthOf));
    }

    [Fact]
    public void A_processor_beyond_the_possible_ones_has_no_queue()
    {
        UringLayout layout = new(rings: 1, Payload, possible: 2, online: [0, 1, 2]);

        Assert.Equal(2, layout.Queues);
    }

    [Theory]
    [InlineData(1, 1 << 20)]
    [InlineData(2, 1 << 20)]
    [InlineData(8, 1 << 20)]
    [InlineData(32, 1 << 20)]
    [InlineData(64, 128 << 10)]
    public void All_entries_together_take_at_most_1_GiB(int processors, int payloadBytes)
    {
        UringLayout layout = new(rings: 1, payloadBytes, processors, [.. Enumerable.Range(0, processors)]);

        Assert.InRange(layout.Depth, 32, 128);
        Assert.Equal(layout.Depth * processors, layout.Entries);
        Assert.True((long)layout.Entries * payloadBytes <= 1L << 30);
    }

    [Theory]
    [InlineData(1, 1 << 20)]
    [InlineData(2, 1 << 20)]
    [InlineData(8, 1 << 20)]
    [InlineData(16, 1 << 20)]
    [InlineData(256, 1 << 20)]
    [InlineData(2, 16 << 20)]
    public void Background_requests_of_one_processor_leave_entries_for_what_is_answered_from_memory(
        int processors, int payloadBytes)
    {
        UringLayout layout = new(rings: 1, payloadBytes, processors, [.. Enumerable.Range(0, processors)]);

        Assert.InRange(layout.Background, 24, layout.Depth - 8);
    }
}
