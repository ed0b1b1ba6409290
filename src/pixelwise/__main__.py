from pixelwise.cli.main import main

main()
