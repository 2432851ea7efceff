using Nbd.Protocol;

namespace UnitTests;

public sealed class WireSizeTests
{
    [Fact]
    public void A_request_is_encoded_as_the_specification_draws_it()
    {
        byte[] wire = new byte[NbdRequest.SizeBytes];

        NbdRequest.Encode(
            wire,
            NbdCommandType.WriteZeroes,
            NbdCommandFlags.ForceUnitAccess | NbdCommandFlags.NoHole,
            0x0102030405060708,
            0x1112131415161718,
            0x21222324);

        Assert.Equal("25609513" + "0003" + "0006" + "0102030405060708" + "1112131415161718" + "21222324",
            Convert.ToHexStringLower(wire));
    }
}
